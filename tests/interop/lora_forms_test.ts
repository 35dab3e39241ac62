import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import { loraParts, readPipeline } from "../../models/diffusers/mod.ts";
import { loadLora, scaledTensors } from "../../models/lora/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { type Float32Tensor, PipelineModel } from "../../trainer/mod.ts";
import { assertClose, readTensors, repositoryPath } from "../models/mod.ts";

// Files that make_lora_files.py wrote, and what diffusers, PEFT and LyCORIS' formulas make of them in float32.
const FOLDER = "tests/golden/lora/forms";
/** Of the largest value. PyTorch's own float32 is 1e-5 from its float64. */
const TOLERANCE = 5e-5;

const formsSchema = z.record(
  z.string(),
  z.object({ by: z.enum(["diffusers", "peft", "dense"]), file: z.string(), scale: z.number() }),
);

for (const model of ["tiny-sd", "tiny-sdxl"]) {
  Deno.test(`every form of LoRA file for ${model} predicts what it does in PyTorch`, async (t) => {
    const folder = repositoryPath(FOLDER);
    const forms = formsSchema.parse(
      JSON.parse(readFileSync(`${folder}/${model}/forms.json`, "utf8")),
    );
    const values = readTensors(`${FOLDER}/${model}/values.safetensors`);
    assert.ok(Object.keys(forms).length >= 28);
    const pipeline = await readPipeline(repositoryPath(`tests/golden/${model}`));
    const engine = await openEngine({ isolation: "child" });
    try {
      for (const [form, { file, scale }] of Object.entries(forms)) {
        await t.step(form, async () => {
          const { adapters } = await loadLora(`${folder}/${model}/${file}`, loraParts(pipeline));
          const { unet, text_encoder, text_encoder_2 } = adapters;
          const drawing = new PipelineModel(pipeline, engine, {
            lora: unet?.changes ?? [],
            textAdapters: [text_encoder, text_encoder_2].map((adapter) =>
              adapter && { ...adapter, tensors: scaledTensors(adapter.tensors, scale) }
            ),
          });
          const denoiser = await drawing.adapt(unet?.tensors ?? {}, { scale });
          const latents = { height: 8, width: 8 };
          const { conditional } = await drawing.prompts.encode(["a fox"], latents);
          const rows = { x: SAMPLE, timesteps: [500], branches: [conditional] };
          const [prediction] = await denoiser.predict(rows);
          await denoiser.release();
          await drawing.dispose();
          const [expected, base] = [values[form], values.base];
          assert.ok(prediction && expected && base?.dtype === "float32");
          assertClose(prediction, expected, { tolerance: TOLERANCE, what: form });
          const change = prediction.data.map((v, i) => Math.abs(v - (base.data[i] ?? NaN)));
          assert.ok(Math.max(...change) > 20 * TOLERANCE * maximum(base), "it changes nothing");
        });
      }
    } finally {
      await engine.close();
    }
  });
}

const SAMPLE = float32(Float32Array.from({ length: 256 }, (_, i) => -1 + 2 * i / 255), [
  1,
  4,
  8,
  8,
]);

function maximum({ data }: Float32Tensor): number {
  return data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
}
