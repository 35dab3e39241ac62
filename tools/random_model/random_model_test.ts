import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { sizeOf } from "../../autodiff/mod.ts";
import { KINDS, type ModelFiles } from "./kinds.ts";
import { networksOf } from "./shapes.ts";
import { writeRandomModel } from "./write.ts";

const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));

/** Parameters of the published checkpoints, counted by diffusers and transformers. */
const PUBLISHED = {
  sd15: [859_520_964, 83_653_863, 123_060_480],
  sdxl: [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
};

for (const kind of ["sd15", "sdxl"] as const) {
  Deno.test(`${kind} has as many parameters as the published one`, () => {
    const counts = networksOf(KINDS[kind]).map(({ shapes }) =>
      [...shapes.values()].reduce((total, shape) => total + sizeOf(shape), 0)
    );
    assert.deepEqual(counts, PUBLISHED[kind]);
  });
}

for (const name of ["tiny-sd", "tiny-sdxl"]) {
  for (const dtype of ["fp16", "fp32"] as const) {
    Deno.test(`${name} in ${dtype}: names and shapes are those diffusers wrote`, async () => {
      const golden = path(`../../tests/golden/${name}`);
      const folder = await Deno.makeTempDir();
      try {
        await writeRandomModel(folder, {
          files: await filesOf(golden),
          dtype,
          tokenizer: `${golden}/tokenizer`,
        });
        await readPipeline(folder);
        for (const { file } of networksOf(await filesOf(golden))) {
          const [written, expected] = [folder, golden].map((root) =>
            new Map(openSafetensors(`${root}/${file}`).tensors)
          );
          // A buffer of positions 0 to 76, not a weight.
          expected?.delete("text_model.embeddings.position_ids");
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
  const parts = ["unet", "vae", "text_encoder", "text_encoder_2"].map((p) => `${p}/config.json`);
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
