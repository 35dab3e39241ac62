import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Tensor, TensorOf } from "../../autodiff/mod.ts";
import {
  assertClose,
  float,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
} from "../../tests/models/mod.ts";
import { ConfigError, readJsonObject } from "../config.ts";
import { float32ToFloat16, toFloat32, WeightsError, writeSafetensors } from "../weights/mod.ts";
import { unetGraph } from "./graphs.ts";
import { readPipeline } from "./read_pipeline.ts";

const SD = "tests/golden/tiny-sd";
const SDXL = "tests/golden/tiny-sdxl";
const UNET = "unet/diffusion_pytorch_model";

/** Runs `body` with a copy of a pipeline folder. */
async function withCopy(from: string, body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "pipeline-"));
  try {
    await cp(repositoryPath(from), folder, { recursive: true });
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Asserts that the pipeline is refused once fields of one of its files are replaced. */
async function refused(
  from: string,
  { file, fields, message }: {
    readonly file: string;
    readonly fields: Record<string, unknown>;
    readonly message: RegExp;
  },
): Promise<void> {
  await withCopy(from, async (folder) => {
    const path = join(folder, file);
    await writeFile(path, JSON.stringify({ ...await readJsonObject(path), ...fields }));
    await assert.rejects(readPipeline(folder), (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("readPipeline reads Stable Diffusion and XL folders", async () => {
  const sd = await readPipeline(repositoryPath(SD));
  assert.equal(sd.kind, "sd");
  assert.equal(sd.scheduler.className, "DDPMScheduler");
  assert.equal(sd.scheduler.config.beta_start, 0.00085);
  assert.deepEqual(sd.tokenizers, [join(sd.folder, "tokenizer")]);
  assert.equal(sd.vae.config.scalingFactor, 0.18215);
  assert.equal(sd.forceZerosForEmptyPrompt, false);
  const xl = await readPipeline(repositoryPath(SDXL));
  assert.equal(xl.kind, "sdxl");
  assert.equal(xl.textEncoders.length, 2);
  assert.equal(xl.textEncoders[1]?.config.activation, "gelu");
  assert.deepEqual(
    xl.tokenizers.map((t) => typeof t === "string" && t.slice(xl.folder.length + 1)),
    [
      "tokenizer",
      "tokenizer_2",
    ],
  );
  assert.equal(xl.forceZerosForEmptyPrompt, true);
  const zoo = await readPipeline(repositoryPath("zoo/pipeline"));
  assert.equal(zoo.unet.config.contextWidth, 128);
});

Deno.test("half precision, under a variant's name or in shards, is what is computed with", () =>
  withCopy(SD, (folder) =>
    withEngine(async (engine) => {
      const plain = join(folder, `${UNET}.safetensors`);
      const original = readTensors(`${SD}/${UNET}.safetensors`);
      const half = Object.fromEntries(
        Object.keys(original).map((name): [string, TensorOf<"float16">] => {
          const { shape, data } = float(original, name);
          return [name, { dtype: "float16", shape, data: float32ToFloat16(data) }];
        }),
      );
      const predict = async (options: { variant?: string } = {}): Promise<Tensor> => {
        const { unet } = await readPipeline(folder, options);
        const size = { batch: 1, height: 8, width: 8, tokens: 2 };
        const fill = (shape: number[], step: number): Tensor => ({
          dtype: "float32",
          shape,
          data: new Float32Array(shape.reduce((a, b) => a * b)).map((_, i) => Math.sin(i * step)),
        });
        const { prediction } = await runOnce(engine, unetGraph(unet, size), {
          sample: fill([1, 4, 8, 8], 1),
          timestep: { dtype: "float32", shape: [1], data: Float32Array.of(500) },
          encoder_hidden_states: fill([1, 2, 32], 2),
        });
        assert.ok(prediction);
        return prediction;
      };
      const full = await predict();
      await writeSafetensors(join(folder, `${UNET}.fp16.safetensors`), half);
      await assert.rejects(
        predict({ variant: "fp16" }),
        /vae: holds no weight file of variant "fp16"/,
      );
      for (const stem of ["vae/diffusion_pytorch_model", "text_encoder/model"]) {
        await cp(join(folder, `${stem}.safetensors`), join(folder, `${stem}.fp16.safetensors`));
      }
      const variant = await predict({ variant: "fp16" });
      assertClose(await predict(), full, { tolerance: 1e-6, what: "plain file beside a variant" });

      await writeSafetensors(
        plain,
        Object.fromEntries(Object.entries(half).map(([name, t]) => [name, toFloat32(t)])),
      );
      const rounded = await predict();
      assertClose(variant, rounded, { tolerance: 1e-6, what: "variant" });
      assert.throws(() => assertClose(rounded, full, { tolerance: 1e-6, what: "rounding" }));

      await rm(plain);
      await rm(join(folder, `${UNET}.fp16.safetensors`));
      const names = Object.keys(half);
      const weight_map: Record<string, string> = {};
      for (const i of [0, 1]) {
        const part = names.filter((_, k) => k % 2 === i);
        const file = `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
        for (const name of part) weight_map[name] = file;
        await writeSafetensors(
          join(folder, "unet", file),
          Object.fromEntries(Object.entries(half).filter(([name]) => part.includes(name))),
        );
      }
      const index = JSON.stringify({ metadata: {}, weight_map });
      await writeFile(join(folder, `${UNET}.safetensors.index.json`), index);
      assertClose(await predict(), rounded, { tolerance: 1e-6, what: "shards" });
    })));

Deno.test("a folder that is no pipeline, or one of another kind, is refused", async () => {
  await assert.rejects(readPipeline(repositoryPath("docs")), /model_index.json: does not exist/);
  const index = "model_index.json";
  await refused(SD, {
    file: index,
    fields: { _class_name: "FluxPipeline" },
    message: /"_class_name" is "FluxPipeline", expected StableDiffusionPipeline or StableDiff/,
  });
  await refused(SD, {
    file: index,
    fields: { unet: ["diffusers", "UNet3DConditionModel"] },
    message: /"unet.1" is "UNet3DConditionModel", expected "UNet2DConditionModel"/,
  });
  await refused(SDXL, {
    file: index,
    fields: { text_encoder: [null, null] },
    message: /"text_encoder.0" is null, expected "transformers"/,
  });
  await refused(SD, {
    file: index,
    fields: { controlnet: ["diffusers", "ControlNetModel"] },
    message: /"controlnet" is not known here/,
  });
});

Deno.test("parts that do not fit one another are refused", async () => {
  await refused(SD, {
    file: "unet/config.json",
    fields: { cross_attention_dim: 48 },
    message: /unet.config.json: "cross_attention_dim" is 48, expected 32, hidden_size of the text/,
  });
  await refused(SD, {
    file: "unet/config.json",
    fields: { in_channels: 9 },
    message: /"in_channels" is 9, expected 4, latent_channels of the VAE/,
  });
  await refused(SDXL, {
    file: "text_encoder_2/config.json",
    fields: { projection_dim: 40 },
    message: /"projection_class_embeddings_input_dim, less.* is 32, expected 40, projection_dim of/,
  });
  await refused(SDXL, {
    file: "unet/config.json",
    fields: { addition_embed_type: null },
    message: /"addition_embed_type" is null, expected text_time, as in the pipeline's class/,
  });
});

Deno.test("missing and truncated weights are refused, and weights of another shape when they are read", () =>
  withCopy(SD, async (folder) => {
    const path = join(folder, `${UNET}.safetensors`);
    const config = join(folder, "unet/config.json");
    const json = await readJsonObject(config);
    await writeFile(config, JSON.stringify({ ...json, block_out_channels: [32, 72] }));
    const { unet } = await readPipeline(folder);
    assert.throws(
      () => unetGraph(unet, { batch: 1, height: 8, width: 8, tokens: 2 }),
      (error) =>
        error instanceof WeightsError &&
        /weight "down_blocks.1.resnets.0.conv1.weight" has shape \[64,32,3,3\]/.test(error.message),
    );
    await Deno.truncate(path, 100_000);
    await assert.rejects(readPipeline(folder), WeightsError);
    await rm(path);
    await assert.rejects(readPipeline(folder), /holds no weight file/);
  }));

Deno.test("weights of a module that was wrapped or compiled are read without the wrapper's prefix", () =>
  withCopy(SD, async (folder) => {
    const weights = readTensors(`${SD}/${UNET}.safetensors`);
    const wrapped = Object.entries(weights).map(([name, t]) => [`module._orig_mod.${name}`, t]);
    await rm(join(folder, `${UNET}.safetensors`));
    await writeSafetensors(join(folder, `${UNET}.safetensors`), Object.fromEntries(wrapped));
    const { unet } = await readPipeline(folder);
    assert.deepEqual(await unet.weights.read("conv_in.weight"), weights["conv_in.weight"]);
    assert.equal(unet.weights.names().length, Object.keys(weights).length);
  }));
