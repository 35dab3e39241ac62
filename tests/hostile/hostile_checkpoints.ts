import assert from "node:assert/strict";
import { join } from "node:path";
import { float32, int64, type Tensor } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { writeSafetensors } from "../../models/weights/mod.ts";
import { makeSampler, parseSchedulerConfig } from "../../trainer/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { attackWithFiles, type Outcome } from "./_resident.ts";

const UNET = "model.diffusion_model.";
const TINY = repositoryPath("tests/golden/tiny-sd");

/** Opens models, `count` times in turn, whose single file, YAML, scheduler or configuration a stranger could have made. */
export function hostileCheckpoints(count: number): Promise<Outcome> {
  return attackWithFiles(attemptsIn, count);
}

async function attemptsIn(folder: string): Promise<(() => Promise<void>)[]> {
  const attempts: (() => Promise<void>)[] = [];
  const refused = (message: RegExp, open: () => Promise<unknown>) =>
    attempts.push(async () => {
      await assert.rejects(open(), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, message);
        assert.ok(error.message.length < 3000, `${error.message.length} characters`);
        return true;
      });
    });
  const one = float32(new Float32Array(1), [1]);
  const some: Record<string, Tensor> = {
    [`${UNET}input_blocks.0.0.weight`]: one,
    "cond_stage_model.model.x": one,
    "first_stage_model.decoder.x": one,
  };
  const single = async (
    name: string,
    { message, tensors, metadata = {}, yaml }: {
      readonly message: RegExp;
      readonly tensors: Record<string, Tensor>;
      readonly metadata?: Record<string, string>;
      readonly yaml?: string;
    },
  ) => {
    const path = join(folder, `${name}.safetensors`);
    await writeSafetensors(path, { ...some, ...tensors }, metadata);
    if (yaml !== undefined) await Deno.writeTextFile(join(folder, `${name}.yaml`), yaml);
    refused(message, () => readPipeline(path, { cacheDir: join(folder, "cache") }));
  };

  // Blocks by the thousand and by the billion.
  const blocks = Array.from({ length: 2000 }, (_, i) => `${UNET}input_blocks.${i}.0.x`);
  const filled = (names: readonly string[]) => Object.fromEntries(names.map((n) => [n, one]));
  await single("blocks", { tensors: filled(blocks), message: /blocks\.safetensors: / });
  await single("billion", {
    tensors: filled([`${UNET}output_blocks.99999999999.1.transformer_blocks.9.x`]),
    message: /billion\.safetensors: /,
  });
  // What the model predicts, said by things of the wrong kind and size.
  await single("steps", {
    tensors: { global_step: int64(Array.from({ length: 4096 }, () => 875_000), [4096]) },
    message: /steps\.safetensors: /,
  });
  await single("marks", {
    tensors: {},
    metadata: { "modelspec.prediction_type": "v".repeat(100_000) },
    message: /prediction_type is "v{1,200}/,
  });
  const laughs = Array.from(
    { length: 9 },
    (_, i) => `a${i}: &a${i} [${Array.from({ length: 9 }, () => i === 0 ? "x" : `*a${i - 1}`)}]`,
  ).join("\n");
  await single("laughs", { tensors: {}, yaml: laughs, message: /laughs\.yaml: / });
  await single("deep", { tensors: {}, yaml: "[".repeat(20_000), message: /deep\.yaml: / });
  await single("large", {
    tensors: {},
    yaml: "#".repeat(2_000_000),
    message: /large\.yaml: has 2000000 bytes, expected at most/,
  });

  // Schedules and widths by which something would be allocated.
  const scheduler = (fields: Record<string, unknown>, message: RegExp) =>
    refused(
      message,
      () =>
        Promise.resolve({ path: "scheduler_config.json", className: "", pipelineClass: "" }).then(
          (file) => {
            const config = parseSchedulerConfig({ ...file, config: fields });
            return makeSampler({ kind: "lcm", steps: 4 }, config);
          },
        ),
    );
  scheduler({ num_train_timesteps: 1e12 }, /num_train_timesteps of .* is 1000000000000/);
  scheduler({ original_inference_steps: 1e15 }, /original_inference_steps/);
  scheduler({ trained_betas: Array.from({ length: 100_000 }, () => 0.5) }, /trained_betas/);
  const unet = JSON.parse(await Deno.readTextFile(join(TINY, "unet", "config.json")));
  const model = join(folder, "model");
  await Deno.mkdir(join(model, "unet"), { recursive: true });
  await Deno.copyFile(join(TINY, "model_index.json"), join(model, "model_index.json"));
  const wide = { ...unet, time_cond_proj_dim: 1e15 };
  await Deno.writeTextFile(join(model, "unet", "config.json"), JSON.stringify(wide));
  refused(/"time_cond_proj_dim" is 1000000000000000, expected/, () => readPipeline(model));
  return attempts;
}
