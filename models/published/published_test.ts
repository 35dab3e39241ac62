import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { sizeOf } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { readTextToImage } from "../flow/mod.ts";
import { networksOf, PUBLISHED_PIPELINES, type PublishedPipeline, writeOutline } from "./mod.ts";

/** Parameters of the published checkpoints, counted by diffusers and transformers. */
const PARAMETERS: Readonly<Record<PublishedPipeline, readonly number[]>> = {
  sd15: [859_520_964, 83_653_863, 123_060_480],
  sd21: [865_910_724, 83_653_863, 340_387_840],
  sdxl: [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
  // The transformer's with its table of positions, 226,492,416.
  "sd35-medium": [2_469_663_936, 83_819_683, 123_650_304, 694_659_840, 4_762_310_656],
  // FLUX.1 dev without the embedding of guidance.
  "flux-schnell": [11_891_178_560, 83_819_683, 123_060_480, 4_762_310_656],
  "flux-dev": [11_901_408_320, 83_819_683, 123_060_480, 4_762_310_656],
  // The VAE's with its mean and variance, 256.
  "klein-4b": [3_875_544_576, 84_046_371, 4_022_468_096],
  "z-image": [6_154_908_736, 83_819_683, 4_022_468_096],
};

/** Bytes of the weights that `drtune fetch` takes of each, as the hub's pages list them, in GB. */
const GIGABYTES: Readonly<Record<PublishedPipeline, number>> = {
  sd15: 4.3,
  sd21: 5.2,
  sdxl: 13.9,
  "sd35-medium": 16,
  "flux-schnell": 34,
  "flux-dev": 34,
  "klein-4b": 16,
  "z-image": 33,
};

const isName = (name: string): name is PublishedPipeline => name in PUBLISHED_PIPELINES;

for (const name of Object.keys(PUBLISHED_PIPELINES).filter(isName)) {
  Deno.test(`${name} has as many parameters as the published one, and its outline is read like it`, () =>
    withFolder(async (folder) => {
      const counts = networksOf(PUBLISHED_PIPELINES[name]).map(({ shapes }) =>
        [...shapes.values()].reduce((total, shape) => total + sizeOf(shape), 0)
      );
      assert.deepEqual(counts, PARAMETERS[name]);

      await writeOutline(folder, name);
      await readTextToImage(folder);
      let [bytes, held] = [0, 0];
      for (const file of await readdir(folder, { recursive: true })) {
        const { size, blocks, isFile } = await stat(join(folder, file)).then((s) => ({
          size: s.size,
          blocks: s.blocks,
          isFile: s.isFile(),
        }));
        if (isFile) [bytes, held] = [bytes + size, held + 512 * blocks];
      }
      assert.ok(Math.abs(bytes / 1e9 / GIGABYTES[name] - 1) < 0.05, `${bytes} bytes`);
      assert.ok(Deno.build.os === "windows" || held < 4e6, `${held} bytes on disk`);
    }));
}
