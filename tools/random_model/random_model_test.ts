import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readTextToImage } from "../../models/flow/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { type ModelFiles, networksOf } from "../../models/published/mod.ts";
import { writeRandomModel } from "./write.ts";

const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));

const TINY = [
  ...["tiny-sd", "tiny-sdxl"],
  ...["flow/tiny-sd3", "flow/tiny-flux", "flow/tiny-flux2", "flow/tiny-zimage"],
];
for (const name of TINY) {
  for (const dtype of ["fp16", "fp32", "bf16"] as const) {
    Deno.test(`${name} in ${dtype}: names and shapes are those diffusers wrote`, async () => {
      const golden = path(`../../tests/golden/${name}`);
      const folder = await Deno.makeTempDir();
      try {
        await writeRandomModel(folder, {
          files: await filesOf(golden),
          dtype,
          tokenizer: `${golden}/tokenizer`,
        });
        await readTextToImage(folder);
        for (const { file } of networksOf(await filesOf(golden))) {
          const [written, expected] = [folder, golden].map((root) =>
            new Map(openSafetensors(`${root}/${file}`).tensors)
          );
          // A buffer of positions 0 to 76, not a weight.
          expected?.delete("text_model.embeddings.position_ids");
          // How often the statistics were updated.
          expected?.delete("bn.num_batches_tracked");
          // transformers 5 leaves out a prefix that the published files have.
          const shapes = (tensors?: ReadonlyMap<string, { shape: readonly number[] }>) =>
            [...tensors ?? []].map(([key, { shape }]) =>
              `${key.replace(/^text_model\./, "")} ${shape}`
            ).sort();
          assert.deepEqual(shapes(written), shapes(expected), file);
        }
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
}

async function filesOf(folder: string): Promise<ModelFiles> {
  const files: Record<string, Record<string, unknown>> = {};
  const parts = ["unet", "transformer", "vae"].map((p) => `${p}/config.json`);
  for (const n of ["", "_2", "_3"]) parts.push(`text_encoder${n}/config.json`);
  for (const file of ["model_index.json", "scheduler/scheduler_config.json", ...parts]) {
    try {
      // What Python writes for an infinity is no JSON; nothing here reads it.
      const text = await Deno.readTextFile(`${folder}/${file}`);
      files[file] = JSON.parse(text.replace("-Infinity", '"-Infinity"'));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return files;
}
