import assert from "node:assert/strict";
import { join } from "node:path";
import { findPython, PythonEnvError, pythonPath } from "./python_env.ts";

/** A stand-in for Python that says its version, copies itself for `-m venv` and logs `-m pip`. */
const FAKE_PYTHON = `#!/bin/sh
case "$1 $2" in
  "-c "*) echo "\${FAKE_VERSION:-3 12}" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") echo "$@" >> "$(dirname "$0")/pip.log" ;;
esac
`;

async function withRepository(
  test: (
    root: string,
    options: { root: string; base: string; existing: undefined },
  ) => Promise<void>,
): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(root, "bench/python"), { recursive: true });
    await Deno.writeTextFile(join(root, "bench/python/requirements.txt"), "a==1\n");
    await Deno.writeTextFile(join(root, "bench/python/constraints.txt"), "b==2\n");
    await Deno.writeTextFile(join(root, "bench/python/trackio.txt"), "c==3\n");
    const base = join(root, "python3");
    await Deno.writeTextFile(base, FAKE_PYTHON, { mode: 0o755 });
    await test(root, { root, base, existing: undefined });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const ignore = Deno.build.os === "windows";

Deno.test({
  name: "pythonPath installs once, and again when the pins change",
  ignore,
  fn: () =>
    withRepository(async (root, options) => {
      const python = join(root, ".venv/bin/python");
      const installs = async () =>
        (await Deno.readTextFile(join(root, ".venv/bin/pip.log"))).trim().split("\n").length;
      assert.equal(findPython(options), undefined);
      assert.equal(await pythonPath(options), python);
      assert.equal(findPython(options), python);
      assert.equal(await pythonPath(options), python);
      assert.equal(await installs(), 1);
      await Deno.writeTextFile(join(root, "bench/python/constraints.txt"), "b==3\n");
      assert.equal(findPython(options), undefined);
      await pythonPath(options);
      assert.equal(await installs(), 2);
    }),
});

Deno.test({
  name: "pythonPath installs trackio apart from the peers, from its own pins",
  ignore,
  fn: () =>
    withRepository(async (root, options) => {
      const python = join(root, ".cache/python-trackio/bin/python");
      assert.equal(await pythonPath({ ...options, environment: "trackio" }), python);
      assert.equal(findPython({ ...options, environment: "trackio" }), python);
      assert.equal(findPython(options), undefined);
      assert.match(await Deno.readTextFile(join(python, "../pip.log")), /-r .*\/trackio\.txt\n$/);
    }),
});

Deno.test({
  name: "pythonPath uses an existing interpreter and leaves it alone",
  ignore,
  fn: () =>
    withRepository(async (root, options) => {
      const ready = { ...options, existing: options.base };
      assert.equal(findPython(ready), options.base);
      assert.equal(await pythonPath(ready), options.base);
      await assert.rejects(Deno.stat(join(root, ".venv")), Deno.errors.NotFound);
    }),
});

Deno.test({
  name: "pythonPath says what it needs when Python is absent, too old or fails",
  ignore,
  fn: () =>
    withRepository(async (root, options) => {
      const expectError = (base: string, message: RegExp) =>
        assert.rejects(pythonPath({ ...options, base }), (error) => {
          assert.ok(error instanceof PythonEnvError);
          assert.match(error.message, message);
          return true;
        });
      await expectError(
        join(root, "absent"),
        /needs Python 3\.11 or newer, but '.*absent' cannot be/,
      );
      const write = async (name: string, script: string) => {
        await Deno.writeTextFile(join(root, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
        return join(root, name);
      };
      await expectError(
        await write("old", "echo 3 9"),
        /3\.11 or newer, but '.*old' is Python 3\.9/,
      );
      const broken = await write("broken", `[ "$1" = -c ] && echo 3 12 || exit 7`);
      await expectError(broken, /-m venv .*' ended with exit code 7; on Debian .* python3-venv/);
    }),
});
