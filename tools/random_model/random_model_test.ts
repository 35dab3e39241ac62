import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readTextToImage } from "../../models/flow/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { sizeOf } from "../../autodiff/mod.ts";
import { KINDS } from "./kinds.ts";
import type { ModelFiles } from "./model_files.ts";
import { networksOf } from "./shapes.ts";
import { writeRandomModel } from "./write.ts";

const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));

/** Parameters of the published checkpoints, counted by diffusers and transformers. */
const PUBLISHED = {
  sd15: [859_520_964, 83_653_863, 123_060_480],
  sdxl: [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
  // The transformer's with its table of positions, 226,492,416.
  "sd35-medium": [2_469_663_936, 83_819_683, 123_650_304, 694_659_840, 4_762_310_656],
  flux: [11_901_408_320, 83_819_683, 123_060_480, 4_762_310_656],
  // The VAE's with its mean and variance, 256.
  "klein-4b": [3_875_544_576, 84_046_371, 4_022_468_096],
  "z-image": [6_154_908_736, 83_819_683, 4_022_468_096],
};

for (const kind of ["sd15", "sdxl", "sd35-medium", "flux", "klein-4b", "z-image"] as const) {
  Deno.test(`${kind} has as many parameters as the published one`, () => {
    const counts = networksOf(KINDS[kind]).map(({ shapes }) =>
      [...shapes.values()].reduce((total, shape) => total + sizeOf(shape), 0)
    );
    assert.deepEqual(counts, PUBLISHED[kind]);
  });
}

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
