import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { createLogger } from "../../base/mod.ts";
import { readPresets } from "./presets.ts";

Deno.test("A preset's endpoints become the addresses known by name; all else stays as it was written", async () => {
  const folder = await Deno.makeTempDir();
  const text = (clip: string) =>
    `# A fox,\n# and books.\nmodel: pipeline # tiny\nrewards:\n` +
    `  - { name: clip, endpoint: ${clip}, weight: 2 }\n  - name: other\n    endpoint: 10.0.0.1:1\n  - { name: clip }\n`;
  try {
    await Deno.writeTextFile(`${folder}/fox.yaml`, text("somewhere:1"));
    await Deno.writeTextFile(`${folder}/no.yaml`, "colour: red\n");
    const presets = await readPresets(pathToFileURL(`${folder}/`), {
      addresses: new Map([["clip", "127.0.0.1:50052"]]),
      log: createLogger({ level: "silent" }),
    });
    const [{ config } = { config: {} }] = presets;
    const { rewards }: { rewards?: { endpoint: string }[] } = Object(config);
    assert.deepEqual(rewards?.map(({ endpoint }) => endpoint), [
      ...["127.0.0.1:50052", "10.0.0.1:1", ""],
    ]);
    assert.deepEqual(presets, [{
      config,
      name: "fox",
      description: "A fox, and books.",
      yaml: text('"127.0.0.1:50052"'),
    }]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
