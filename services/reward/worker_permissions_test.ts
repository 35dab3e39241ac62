import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeSafetensors } from "../../models/weights/mod.ts";
import { float32 } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { workerPermissions } from "./_worker_permissions.ts";

Deno.test("a reward's process may read weights through links, as hubs and data disks have them, and nothing beside", () =>
  withFolder(async (temporary) => {
    const root = await Deno.realPath(temporary);
    const at = (...parts: string[]) => join(root, ...parts);
    for (const folder of ["hub/blobs", "hub/snapshot", "models"]) {
      await Deno.mkdir(at(folder), { recursive: true });
    }
    await Deno.writeFile(at("hub/blobs/0a"), encodeSafetensors({ w: float32([1, 2]) }));
    await Deno.writeTextFile(at("hub/blobs/secret"), "");
    await Deno.symlink("../blobs/0a", at("hub/snapshot/model.safetensors"));
    await Deno.symlink(at("hub/snapshot"), at("models/clip"));
    const settings = { baseDir: at("models"), cacheDir: at("cache") };
    const flags = workerPermissions({ kind: "clip", weights: "clip" }, settings);
    const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
    const weights = new URL("../../models/weights/mod.ts", import.meta.url);
    const program = async (code: string) => {
      const path = at("program.ts");
      await Deno.writeTextFile(path, code);
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-prompt", "--no-check", "--config", config, ...flags, path],
      }).output();
      return { success, text: new TextDecoder().decode(stderr) };
    };
    const read = await program(
      `import { openWeights } from "${weights}";
       const source = await openWeights("${at("models/clip")}");
       await source.read("w");`,
    );
    assert.ok(read.success, read.text);
    const beside = await program(`await Deno.readFile("${at("hub/blobs/secret")}");`);
    assert.match(beside.text, /NotCapable/);
  }));
