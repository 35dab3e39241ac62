import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startPublishedHub } from "../../services/cli/testing/mod.ts";
import { CLIENTS_FOLDER, findClient, findPython } from "../../tools/mod.ts";
import { withFolder } from "../support/mod.ts";
import { documentBlocks } from "../support/shell_document.ts";
import { cloneInto, freePorts, type Ports, ROOT, runShell, withPorts } from "./_document_shell.ts";

const python = findPython();
const hasGrpc = python !== undefined &&
  spawnSync(python, ["-c", "import grpc, grpc_tools, numpy"]).status === 0;
const grpcurl = findClient("grpcurl");
const BLOCKS = documentBlocks(await readFile(join(ROOT, "README.md"), "utf8"))
  .filter(({ language }) => language === "sh");

/** What is left out of a block, and why; nothing else is changed but ports, which a busy machine may not have free. */
function asRunHere(text: string): string {
  return text
    // Two minutes each. One iteration shows that the command comes to its end, which is 1 where nothing was learned yet;
    // the others are the same with another word.
    .replace(
      /^\.\/drtune demo +#.*$/m,
      "./drtune demo --iterations 1 || test -f demo-out/objectness/summary.md",
    )
    .replace(/^\.\/drtune demo --reward symmetry.*$/m, "")
    .replace(/^\.\/drtune demo --model flow.*$/m, "")
    .replaceAll(/^grpcurl .*$/gm, grpcurl === undefined ? "" : "$&");
}

/** The description that README's stack has by default, with free ports and folders of its own. */
async function writeStack(folder: string, ports: Ports): Promise<string> {
  const text = await readFile(join(ROOT, "deploy/stack.yaml"), "utf8");
  const path = join(folder, "readme-stack.yaml");
  const own = withPorts(text, ports).replace("../zoo", join(ROOT, "zoo"))
    .replace("../runs", "runs").replace("../.drtune", ".drtune");
  await writeFile(path, own);
  return path;
}

/** Configurations of the clone that train for seconds. */
async function shortConfigs(folder: string): Promise<void> {
  await cp(join(ROOT, "configs"), join(folder, "configs"), { recursive: true });
  const path = join(folder, "configs/books.yaml");
  const text = await readFile(path, "utf8");
  const short = text.replace("iterations: 60", "iterations: 2").replace("size: 8", "size: 1")
    .replace("steps: 10", "steps: 6");
  assert.equal(short.length, text.length - 2);
  await writeFile(path, short);
}

Deno.test("README.md: its commands run in their order", async (t) => {
  await withFolder(async (root) => {
    await using hub = await startPublishedHub();
    const [clone, bin] = [join(root, "clone"), join(root, "bin")];
    await mkdir(clone);
    await mkdir(bin);
    await cloneInto(clone, ["configs", "runs", ".drtune", "demo-out"]);
    await shortConfigs(clone);
    // A link to an environment's interpreter would not find its packages.
    const shim = `#!/bin/sh\nexec "${python}" "$@"\n`;
    if (hasGrpc) await writeFile(join(bin, "python3"), shim, { mode: 0o755 });
    const ports = freePorts();
    const stack = await writeStack(root, ports);
    const env = {
      HF_ENDPOINT: hub.url,
      HF_HOME: join(root, "hf"),
      TMPDIR: root,
    };
    const before = await readdir(clone);
    const options = { cwd: clone, env, path: [bin, CLIENTS_FOLDER] };
    try {
      for (const { text } of BLOCKS) {
        const isPython = text.includes("python3 ");
        await t.step({
          name: text.split("\n").find((line) =>
            line.startsWith("./") || line.startsWith("PYTHON")
          ) ??
            text,
          ignore: isPython && !hasGrpc,
          async fn() {
            // By default the stack is the embedded one; for it alone `fetch` has a folder of its own.
            const own = text.includes("drtune fetch") ? {} : { DRTUNE_STACK: stack };
            await runShell(withPorts(asRunHere(text), ports), {
              ...options,
              env: { ...env, ...own },
            });
          },
        });
      }
      await t.step({
        name: "the commands of grpcurl",
        ignore: grpcurl === undefined,
        // They ran above where it is installed; this says by name where it is not.
        fn() {},
      });
    } finally {
      await runShell("./drtune down || true", { ...options, env: { ...env, DRTUNE_STACK: stack } });
    }
    const written = (await readdir(clone)).filter((name) => !before.includes(name));
    assert.ok(written.includes("out") && written.includes("weights"), written.join());
    for (const name of written) {
      const words = ["check-ignore", "--quiet", "--no-index", `${name}/x`];
      const { status } = spawnSync("git", words, { cwd: ROOT });
      assert.equal(status, 0, `README's commands write ${name}, which .gitignore does not name`);
    }
  });
});
