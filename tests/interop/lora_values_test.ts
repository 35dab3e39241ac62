import assert from "node:assert/strict";
import { float32, sizeOf } from "../../autodiff/mod.ts";
import { loraParts, readPipeline } from "../../models/diffusers/mod.ts";
import { type Adapters, loadLora } from "../../models/lora/mod.ts";
import { type Engine, openEngine } from "../../runtime/mod.ts";
import {
  draw,
  type Float32Tensor,
  parseSchedulerConfig,
  PipelineModel,
} from "../../trainer/mod.ts";
import { readTensors, repositoryPath } from "../models/mod.ts";

// What diffusers makes of each file: see the README beside them.
const FILES = "tests/golden/lora";
const values = readTensors(`${FILES}/values.safetensors`);
function value(name: string): Float32Tensor {
  const tensor = values[name];
  assert.ok(tensor?.dtype === "float32", name);
  return tensor;
}

/** Mean difference of two pictures in 0..1. Rounding alone leaves 1e-6. */
const CLOSE = 2e-5;

Deno.test("LoRA files as people have them draw the pictures that diffusers draws", async () => {
  const engine = await openEngine({ isolation: "child" });
  try {
    const pictures = Object.keys(values).filter((name) => name.startsWith("image."));
    assert.equal(pictures.length, 7);
    const base = await drawn(engine, {});
    for (const picture of pictures) {
      const name = picture.slice("image.".length);
      const found = name === "base"
        ? base
        : await drawn(engine, await adaptersOf(`${FILES}/${name}.safetensors`));
      const expected = value(picture);
      const off = distance(found, expected);
      assert.ok(off < CLOSE, `${name} is ${off} off`);
      if (name !== "base") assert.ok(distance(base, expected) > 100 * CLOSE, name);
    }
  } finally {
    await engine.close();
  }
});

Deno.test("a folder of PEFT's with rsLoRA, and diffusers' first files, predict what they do in PyTorch", async () => {
  const engine = await openEngine({ isolation: "child" });
  try {
    const linspace = (...shape: number[]) =>
      float32(
        Float32Array.from({ length: sizeOf(shape) }, (_, i) => -1 + 2 * i / (sizeOf(shape) - 1)),
        shape,
      );
    const predicted = async (adapters: Adapters) => {
      const model = await opened(engine, adapters);
      const denoiser = await model.adapt(adapters.unet?.tensors ?? {});
      const rows = {
        x: linspace(1, 4, 8, 8),
        timesteps: [500],
        branches: [{ encoder_hidden_states: linspace(1, 77, 32) }],
      };
      const [prediction] = await denoiser.predict(rows);
      await model.dispose();
      assert.ok(prediction);
      return prediction;
    };
    const base = await predicted({});
    const scaled = await predicted(await adaptersOf(`${FILES}/peft_rslora_folder`));
    const expected = value("prediction.peft_rslora_folder");
    // Of values around 1, in PyTorch's float32.
    assert.ok(distance(scaled, expected) < 1e-4, `${distance(scaled, expected)}`);
    assert.ok(distance(base, expected) > 1e-2);
    // Attention processors of diffusers before 0.22, without the prefix "unet.", have no scale of their own.
    const old = await adaptersOf(`${FILES}/unet_attn_procs_without_prefix.safetensors`);
    assert.equal(old.unet?.changes.length, 32);
    for (const { delta } of old.unet?.changes ?? []) {
      assert.deepEqual(delta, { kind: "product", rank: 4, alpha: 4 });
    }
  } finally {
    await engine.close();
  }
});

async function adaptersOf(file: string): Promise<Adapters> {
  const pipeline = await readPipeline(repositoryPath("tests/golden/tiny-sd"));
  return (await loadLora(repositoryPath(file), loraParts(pipeline))).adapters;
}

async function opened(engine: Engine, { unet, text_encoder }: Adapters): Promise<PipelineModel> {
  const pipeline = await readPipeline(repositoryPath("tests/golden/tiny-sd"));
  const lora = unet?.changes ?? [];
  return new PipelineModel(pipeline, engine, { lora, textAdapters: [text_encoder] });
}

/** [H, W, 3] in 0..1. */
async function drawn(engine: Engine, adapters: Adapters): Promise<Float32Tensor> {
  const pipeline = await readPipeline(repositoryPath("tests/golden/tiny-sd"));
  const model = await opened(engine, adapters);
  const denoiser = await model.adapt(adapters.unet?.tensors ?? {});
  const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
  const drawing = {
    sampler: { kind: "ddim", steps: 4 } as const,
    scheduler: parseSchedulerConfig(pipeline.scheduler),
    guidance: 3,
    latents: { channels: 4, height: 16, width: 16 },
    initial: value("x_T"),
    signal: new AbortController().signal,
  };
  for await (const { images } of draw(networks, [{ prompt: "a fox", seed: 0 }], drawing)) {
    await model.dispose();
    const [, channels = 3, height = 1, width = 1] = images.shape;
    const size = height * width;
    const data = Float32Array.from({ length: channels * size }, (_, i) => {
      const value = images.data[(i % channels) * size + Math.floor(i / channels)] ?? NaN;
      return Math.min(1, Math.max(0, value));
    });
    return float32(data, [height, width, channels]);
  }
  throw new Error("Nothing was drawn");
}

function distance(a: Float32Tensor, b: Float32Tensor): number {
  assert.deepEqual([...a.shape], [...b.shape]);
  return a.data.reduce((sum, v, i) => sum + Math.abs(v - (b.data[i] ?? NaN)), 0) / a.data.length;
}
