import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { float32, int64, type Tensor } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { loadClipTokenizer } from "../../models/tokenizer/mod.ts";
import { float32ToFloat16, writeSafetensors } from "../../models/weights/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { readRunPipeline } from "../../trainer/mod.ts";
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

/** The VAE's attention as converters of diffusers' folders name it, today and before 0.16. */
const OTHER_ATTENTION: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  v1: {},
  v2: { norm: "group_norm", q: "to_q", k: "to_k", v: "to_v", proj_out: "to_out.0" },
  xl: { norm: "group_norm", q: "query", k: "key", v: "value", proj_out: "proj_attn" },
};

for (const kind of ["v1", "v2", "xl"]) {
  Deno.test(`a single-file checkpoint of kind ${kind} draws what diffusers draws with it`, () =>
    withFolder(async (place) => {
      await tokenizersIn(place);
      const path = join(place, "model.safetensors");
      const latents = join(place, "latents.safetensors");
      const renamed = Object.entries(filled(await shapesOf(kind))).map(([name, tensor]) => [
        name.replace(/(?<=attn_1\.)\w+/, (part) => OTHER_ATTENTION[kind]?.[part] ?? part),
        tensor,
      ]);
      await writeSafetensors(path, Object.fromEntries(renamed));
      const x = noise(10 ** 4, 256).map((v) => 1.7 * v);
      await writeSafetensors(latents, { x: float32(Float32Array.from(x), [1, 4, 8, 8]) });
      const distance = distanceFromNpy(
        await drawFox(path, { latents }),
        join(folder, `${kind}.npy`),
      );
      assert.ok(distance < 1e-4, `${distance} off`);
    }));
}

Deno.test("a LoRA in kohya's names changes Stable Diffusion 2 as in diffusers", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const [path, lora, latents] = ["model", "lora", "latents"].map((n) =>
      join(place, `${n}.safetensors`)
    );
    assert.ok(path && lora && latents);
    await writeSafetensors(path, filled(await shapesOf("v2")));
    const weights = filled(await shapesOf("v2_lora"));
    const alphas = Object.keys(weights).filter((name) => name.endsWith(".lora_up.weight")).map(
      (name) => [name.replace(".lora_up.weight", ".alpha"), float32([1], [])],
    );
    await writeSafetensors(lora, { ...weights, ...Object.fromEntries(alphas) });
    const x = noise(10 ** 4, 256).map((v) => 1.7 * v);
    await writeSafetensors(latents, { x: float32(Float32Array.from(x), [1, 4, 8, 8]) });
    const drawn = await drawFox(path, { latents, lora });
    assert.ok(distanceFromNpy(drawn, join(folder, "v2_lora.npy")) < 1e-4);
    assert.ok(distanceFromNpy(drawn, join(folder, "v2.npy")) > 1e-2);
  }));

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

for (const prefix of ["module.", "state_dict.", "state_dict.module.", "_orig_mod."]) {
  Deno.test(`a single file is read whose names all begin with "${prefix}"`, () =>
    withFolder(async (place) => {
      await tokenizersIn(place);
      const [bare, path] = [join(place, "bare.safetensors"), join(place, "model.safetensors")];
      const weights = filled(await shapesOf("v1"));
      await writeSafetensors(bare, weights);
      const plain = await readPipeline(bare);
      const wrapped = Object.entries(weights).map(([name, tensor]) => [prefix + name, tensor]);
      await writeSafetensors(path, Object.fromEntries(wrapped));
      const { unet, vae, textEncoders } = await readPipeline(path);
      assert.deepEqual(unet.config, plain.unet.config);
      assert.deepEqual(vae.weights.names(), plain.vae.weights.names());
      const name = "text_model.final_layer_norm.weight";
      const [text, plainText] = [textEncoders[0]?.weights, plain.textEncoders[0]?.weights];
      assert.deepEqual(await text?.read(name), await plainText?.read(name));
    }));
}

for (const name of ["time_embedding.cond_proj.weight", "time_embed.cond_proj.weight"]) {
  Deno.test(`a single file of a latent consistency model has its scale of guidance in ${name}`, () =>
    withFolder(async (place) => {
      await tokenizersIn(place);
      const path = join(place, "model.safetensors");
      const weights = filled(await shapesOf("v1"));
      const projection = float32(new Float32Array(32 * 6).fill(0.5), [32, 6]);
      await writeSafetensors(path, { ...weights, [`model.diffusion_model.${name}`]: projection });
      const { unet } = await readPipeline(path);
      assert.equal(unet.config.guidanceWidth, 6);
      assert.deepEqual(await unet.weights.read("time_embedding.cond_proj.weight"), projection);
      const { defaults } = await readRunPipeline(path);
      assert.deepEqual([defaults.samplerKind, defaults.guidanceScale], ["lcm", 8.5]);
    }));
}

Deno.test("a file of XL that diffusers' converter wrote has its projection as transformers have it", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const path = join(place, "model.safetensors");
    const weights = filled(await shapesOf("xl"));
    const old = "conditioner.embedders.1.model.text_projection";
    const { [old]: stored, ...others } = weights;
    assert.ok(stored);
    await writeSafetensors(path, weights);
    const expected = await projectionIn(path);
    const [width = 0, out = 0] = stored.shape;
    const turned = stored.data.map((_, i) =>
      stored.data[(i % width) * out + Math.floor(i / width)] ?? NaN
    );
    const converted = join(place, "converted.safetensors");
    await writeSafetensors(converted, {
      ...others,
      [`${old}.weight`]: float32(turned, [out, width]),
    });
    assert.deepEqual(await projectionIn(converted), expected);
  }));

async function projectionIn(path: string) {
  const { textEncoders: [, text] } = await readPipeline(path);
  return [text?.config.projectionDim, await text?.weights.read("text_projection.weight")];
}

Deno.test("places that a merger made halves of change nothing, and none are needed", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const path = join(place, "model.safetensors");
    const name = "cond_stage_model.transformer.text_model.embeddings.position_ids";
    const places = Float32Array.from({ length: 77 }, (_, i) => i === 41 ? 40.96875 : i);
    const weights = filled(await shapesOf("v1"));
    assert.ok(!(name in weights));
    const data = float32ToFloat16(places);
    await writeSafetensors(path, {
      ...weights,
      [name]: { dtype: "float16", shape: [1, 77], data },
    });
    const { textEncoders: [text] } = await readPipeline(path);
    assert.equal(text?.config.contextLength, 77);
  }));

Deno.test("a single file whose ways down and up differ in depth, as distilled ones do, is read", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const path = join(place, "model.safetensors");
    const all = filled(await shapesOf("xl"));
    const gone = /output_blocks\.0\.1\.transformer_blocks\.1\./;
    const weights = Object.fromEntries(Object.entries(all).filter(([name]) => !gone.test(name)));
    assert.ok(Object.keys(weights).length < Object.keys(all).length);
    await writeSafetensors(path, weights);
    const { unet } = await readPipeline(path);
    const deepest = unet.config.levels.at(-1);
    assert.deepEqual([deepest?.downTransformers, deepest?.upTransformers], [[2], [1, 2]]);
  }));

Deno.test("what a single file of Stable Diffusion 2 predicts is what its marks, its YAML or its steps say", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const path = join(place, "model.safetensors");
    const weights = filled(await shapesOf("v2"));
    const predicts = async (
      more: Readonly<Record<string, Tensor>>,
      metadata: Readonly<Record<string, string>> = {},
    ) => {
      await writeSafetensors(path, { ...weights, ...more }, metadata);
      const { scheduler, unet } = await readPipeline(path);
      return [scheduler.config.prediction_type, unet.config.sampleSize?.[0]];
    };
    const step = (value: number) => ({ global_step: int64([value], []) });
    assert.deepEqual(await predicts({}), ["v_prediction", 96]);
    // The steps of 512-base-ema.ckpt and of 768-v-ema.ckpt.
    assert.deepEqual(await predicts(step(875_000)), ["epsilon", 64]);
    assert.deepEqual(await predicts(step(140_000)), ["v_prediction", 96]);
    const noted = (type: string) => ({ "modelspec.prediction_type": type });
    assert.deepEqual(await predicts({}, noted("epsilon")), ["epsilon", 64]);
    assert.deepEqual(await predicts(step(875_000), noted("v")), ["v_prediction", 96]);
    await assert.rejects(predicts({}, noted("x0")), /prediction_type is "x0", expected epsilon or/);
    const beside = join(place, "model.yaml");
    const params = "model:\n  params:\n    linear_start: 0.00085\n";
    await Deno.writeTextFile(beside, params);
    assert.deepEqual(await predicts({}), ["epsilon", 64]);
    await Deno.writeTextFile(beside, `${params}    parameterization: "v"\n`);
    assert.deepEqual(await predicts(step(875_000)), ["v_prediction", 96]);
    await Deno.writeTextFile(beside, `${params}    parameterization: x0\n`);
    await assert.rejects(
      predicts({}),
      /model\.yaml: "model\.params\.parameterization" is not understood, expected .* eps or v/,
    );
  }));

Deno.test("a file of Stable Diffusion 2 made of a folder has no last block to leave out", () =>
  withFolder(async (place) => {
    await tokenizersIn(place);
    const path = join(place, "model.safetensors");
    const weights = filled(await shapesOf("v2"));
    const made = Object.entries(weights).filter(([name]) =>
      !/text_projection|logit_scale|resblocks\.2\./.test(name)
    );
    for (const tensors of [weights, Object.fromEntries(made)]) {
      await writeSafetensors(path, tensors);
      const { textEncoders: [text] } = await readPipeline(path);
      assert.equal(text?.config.layers, 2);
    }
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
      { ...shapes, "first_stage_model.decoder.mid.attn_2.q.weight": [1] },
      /has "first_stage_model\.decoder\.mid\.attn_2\.q\.weight", which no layer of/,
    );
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
