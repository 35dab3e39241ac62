import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { loadClipTokenizer } from "../../models/tokenizer/mod.ts";
import { float32ToFloat16, writeSafetensors } from "../../models/weights/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { withFolder } from "../support/mod.ts";
import { distanceFromNpy, drawFox } from "./_draw.ts";
import { filled, noise } from "./_single_file.ts";

// Tiny single-file checkpoints: make_single_files.py.

const folder = repositoryPath("tests/published/single_files");
const shapesSchema = z.record(z.string(), z.array(z.number()));

const shapesOf = async (kind: string) =>
  shapesSchema.parse(JSON.parse(await Deno.readTextFile(`${folder}/${kind}.json`)));

async function tokenizersIn(place: string): Promise<void> {
  for (const name of ["tokenizer", "tokenizer_2"]) {
    await Deno.symlink(repositoryPath("tests/golden/tiny-sd/tokenizer"), join(place, name));
  }
}

for (const kind of ["v1", "v2", "xl"]) {
  Deno.test(`a single-file checkpoint of kind ${kind} draws what diffusers draws with it`, () =>
    withFolder(async (place) => {
      await tokenizersIn(place);
      const path = join(place, "model.safetensors");
      const latents = join(place, "latents.safetensors");
      await writeSafetensors(path, filled(await shapesOf(kind)));
      const x = noise(10 ** 4, 256).map((v) => 1.7 * v);
      await writeSafetensors(latents, { x: float32(Float32Array.from(x), [1, 4, 8, 8]) });
      const distance = distanceFromNpy(
        await drawFox(path, { latents }),
        join(folder, `${kind}.npy`),
      );
      assert.ok(distance < 1e-4, `${distance} off`);
    }));
}

Deno.test("a single-file checkpoint is read in half precision too, and its marks decide what it predicts", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const half = Object.fromEntries(
      Object.entries(filled(await shapesOf("xl"))).map(([name, { shape, data }]) => [
        name,
        { dtype: "float16" as const, shape, data: float32ToFloat16(data) },
      ]),
    );
    const path = join(place, "model.safetensors");
    await writeSafetensors(path, half);
    const { unet, vae, scheduler, textEncoders, kind } = await readPipeline(path);
    assert.equal(unet.weights.get("conv_in.weight").dtype, "float16");
    assert.equal(vae.config.scalingFactor, 0.13025);
    assert.deepEqual(textEncoders.map(({ config }) => config.activation), ["quick_gelu", "gelu"]);
    assert.equal(scheduler.config.prediction_type, "epsilon");
    assert.equal(kind, "sdxl");
    const mark = float32(new Float32Array(0), [0]);
    await writeSafetensors(path, { ...half, v_pred: mark, ztsnr: mark });
    const marked = await readPipeline(path);
    assert.equal(marked.scheduler.config.prediction_type, "v_prediction");
    assert.equal(marked.scheduler.config.rescale_betas_zero_snr, true);
  }));

Deno.test("files that are no whole model are refused by what they are", () =>
  withFolder(async (place) => {
    const path = join(place, "model.safetensors");
    const shapes = await shapesOf("v1");
    const refused = async (names: Readonly<Record<string, readonly number[]>>, message: RegExp) => {
      await writeSafetensors(path, filled(names));
      await assert.rejects(readPipeline(path), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, message);
        assert.ok(error.message.includes(path), error.message);
        return true;
      });
    };
    const without = (prefix: string) =>
      Object.fromEntries(Object.entries(shapes).filter(([name]) => !name.startsWith(prefix)));
    await refused({ "lora_unet_x.lora_down.weight": [1, 1] }, /holds a LoRA.*expected a diffusers/);
    await refused({ "double_blocks.0.x": [1] }, /holds a transformer of FLUX's kind/);
    await refused({ "conv_in.weight": [1] }, /holds a U-Net alone in diffusers' names/);
    await refused({ other: [1] }, /is no model: expected a diffusers folder or a single-file/);
    await refused(without("first_stage_model."), /has no VAE \(first_stage_model\)/);
    await refused(without("cond_stage_model."), /has no text encoder/);
    await refused(without("model.diffusion_model.out."), /has no weight "out\.2\.weight"/);
    await refused(
      { ...shapes, "model.diffusion_model.input_blocks.0.0.weight": [32, 9, 3, 3] },
      /"in_channels" is 9, expected 4, .* a mask and an image, which inpainting models read/,
    );
    await refused(
      { ...without("cond_stage_model."), "conditioner.embedders.0.model.ln_final.weight": [1] },
      /is the refiner of XL/,
    );
    // No tokenizer lies beside it, and it is not CLIP's.
    await refused(
      shapes,
      /text encoder of 545 tokens, expected 49408 as CLIP has, or its tokenizer in/,
    );
    await assert.rejects(
      readPipeline(join(folder, "stub.safetensors")),
      /stub\.safetensors: has no text encoder \(cond_stage_model or conditioner\)/,
    );
    // What a training program remembers beside the weights is passed over.
    await assert.rejects(
      readPipeline(join(folder, "lightning.ckpt"), { cacheDir: join(place, "cache") }),
      /lightning\.ckpt: has no VAE/,
    );
  }));

Deno.test("CLIP's own tokenizer comes with checkpoints that have none", () => {
  const place = repositoryPath("models/tokenizer/clip_bpe");
  const ids = (padToken: string, text: string) =>
    [...loadClipTokenizer({ folder: place, padToken }).encode(text, { maxLength: 12 }).ids].map(
      Number,
    );
  // open_clip's ids of the same text.
  assert.deepEqual(ids("!", "a fox, and Bücher 中"), CLIP_IDS);
});

const CLIP_IDS = [49406, 320, 3240, 267, 537, 38706, 3466, 19759, 511, 49407, 0, 0];
