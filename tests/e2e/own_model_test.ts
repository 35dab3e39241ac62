import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startPublishedHub } from "../../services/cli/testing/mod.ts";
import { findPython } from "../../tools/mod.ts";
import { withFolder } from "../support/mod.ts";
import { documentBlocks, outputPattern } from "../support/shell_document.ts";
import { freePorts, ROOT, runShell, withPorts } from "./_document_shell.ts";

const python = findPython();
const BLOCKS = documentBlocks(await readFile(join(ROOT, "docs/own_model.md"), "utf8"));

Deno.test("docs/own_model.md: every command does what is shown, from fetch to a LoRA", async (t) => {
  await withFolder(async (folder) => {
    await using hub = await startPublishedHub();
    const env = {
      HF_ENDPOINT: hub.url,
      // No copies of this machine's cache.
      HF_HOME: join(folder, "hf"),
      TMPDIR: folder,
    };
    const ports = freePorts();
    await Deno.symlink(join(ROOT, "drtune"), join(folder, "drtune"));
    let [cwd, said] = [folder, ""];
    try {
      for (const { language, text } of BLOCKS) {
        if (language === "sh") {
          await t.step(text.split("\n")[0] ?? "", async () => {
            said = await runShell(withPorts(text, ports), { cwd, env });
          });
          if (/^cd project$/m.test(text)) cwd = join(folder, "project");
          const stack = join(folder, "project/stack.yaml");
          if (text.includes("init")) {
            await writeFile(stack, withPorts(await readFile(stack, "utf8"), ports));
          }
        } else if (language === "text") {
          let rest = said.split("\n");
          for (const line of text.split("\n").filter((l) => l.trim() !== "")) {
            const pattern = outputPattern(line);
            const at = rest.findIndex((found) => pattern.test(found));
            assert.ok(at >= 0, `"${line}" is not in:\n${said}`);
            rest = rest.toSpliced(0, at);
          }
        } else {
          await t.step({
            name: "diffusers loads the LoRA and draws with it",
            ignore: python === undefined,
            async fn() {
              await writeFile(join(cwd, "draw.py"), text);
              await runShell(`"${python}" draw.py`, { cwd, env: { HF_HUB_OFFLINE: "1" } });
              assert.ok((await Deno.stat(join(cwd, "fox.png"))).size > 1000);
            },
          });
        }
      }
    } finally {
      // What failed on the way leaves a stack running.
      await runShell(`"${join(folder, "drtune")}" down || true`, { cwd, env });
    }
  });
});
