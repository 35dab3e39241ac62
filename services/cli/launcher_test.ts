import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withFolder } from "../../tests/support/mod.ts";

const LAUNCHER = fileURLToPath(new URL("../../drtune", import.meta.url));
const USED = ["sh", "dirname", "readlink", "cmp", "cp", "mkdir", "du", "cut", "sleep", "ln"];

/** A checkout with the launcher and a command line that says how it was called, and a PATH without Deno. */
async function checkout(folder: string): Promise<{ readonly root: string; readonly bin: string }> {
  const [root, bin] = [join(folder, "a checkout"), join(folder, "bin")];
  await Deno.mkdir(join(root, "services/cli"), { recursive: true });
  await Deno.mkdir(bin);
  await Deno.copyFile(LAUNCHER, join(root, "drtune"));
  await Deno.writeTextFile(join(root, "deno.json"), '{ "nodeModulesDir": "auto" }');
  await Deno.writeTextFile(join(root, "deno.lock"), '{ "version": "5" }\n');
  await Deno.writeTextFile(
    join(root, "services/cli/main.ts"),
    'console.log(Deno.env.get("DRTUNE_PROGRAM"), Deno.args.join("|"));',
  );
  await Promise.all(USED.map(async (name) => {
    const found = new Deno.Command("sh", { args: ["-c", `command -v ${name}`] });
    const path = new TextDecoder().decode((await found.output()).stdout).trim();
    await Deno.symlink(path, join(bin, name));
  }));
  return { root, bin };
}

async function program(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

async function launch(path: string, bin: string, args: readonly string[]) {
  const { code, stdout, stderr } = await new Deno.Command(path, {
    args: [...args],
    clearEnv: true,
    env: { PATH: bin, HOME: bin, NO_COLOR: "1" },
    cwd: bin,
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test({
  name:
    "With Node alone the launcher installs what is missing, says a line of each, and does it once",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withFolder(async (folder) => {
      const { root, bin } = await checkout(folder);
      const path = join(root, "drtune");
      const without = await launch(path, bin, []);
      assert.deepEqual([without.code, without.stdout], [1, ""]);
      assert.match(
        without.stderr,
        /^drtune: needs Node .* or Deno \d+\.\d+\.\d+ .*, found neither$/,
      );

      // Another version is passed by.
      await program(join(bin, "deno"), 'echo "deno 1.0.0 (stable)"');
      await program(join(bin, "npm"), "echo no network >&2; exit 7");
      const failed = await launch(path, bin, []);
      assert.equal(failed.code, 7);
      assert.match(failed.stderr, /^Installing Deno .*, once \.\.\.\nno network$/);

      await program(
        join(bin, "npm"),
        // As npm does when a newer one is there, in five lines.
        'case " $* " in *" --no-update-notifier "*) ;; *) echo "npm notice" >&2 ;; esac\n' +
          `echo added 2 packages; mkdir -p "$3/node_modules/@deno/any"\n` +
          `ln -s ${Deno.execPath()} "$3/node_modules/@deno/any/deno"`,
      );
      const first = await launch(path, bin, ["a", "b c"]);
      assert.equal(first.stdout, `${path} a|b c`);
      assert.match(first.stderr, /^Installing Deno .*\nInstalling packages, once \.\.\.$/);
      assert.equal((await launch(path, bin, ["a"])).stderr, "");

      await Deno.symlink(path, join(bin, "drtune"));
      assert.equal((await launch(join(bin, "drtune"), bin, ["up"])).stdout, "drtune up");
    }),
});
