import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { openSafetensors } from "../../models/weights/mod.ts";
import { loadReward } from "../../rewards/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import {
  type Float32Tensor,
  openTraceModel,
  type Parameters,
  type PipelineModel,
  readTraceCase,
  trace,
} from "../../trainer/mod.ts";

// Of a tensor's own largest value. float32 PyTorch is at 2e-6 for states and images and 9e-6 for gradients.
const STATE_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 5e-5;

const cases = new URL("cases/", import.meta.url).pathname;
const engine = await openEngine({ isolation: "in-process" });
const session = { intraOpNumThreads: 1 };
const symmetry = await loadReward({ kind: "symmetry", std: "global" }, { engine, selfCheck: false });
const models = new Map<string, PipelineModel>();

/** The gradient of the named reward; the one case that needs it has symmetry with the paper's deviation. */
async function upstream(images: Float32Tensor, reward: string): Promise<Float32Tensor> {
  assert.equal(reward, "symmetry");
  const { gradient } = await symmetry.score(images, [], { gradient: true });
  assert.ok(gradient);
  return gradient;
}

function distance(actual: Float32Tensor | undefined, expected: Float32Tensor): number {
  assert.deepEqual(actual?.shape, expected.shape);
  let [error, largest] = [0, 0];
  expected.data.forEach((v, i) => {
    error = Math.max(error, Math.abs(v - (actual?.data[i] ?? NaN)));
    largest = Math.max(largest, Math.abs(v));
  });
  return largest === 0 ? error : error / largest;
}

async function replay(name: string, limits?: { products: number }): Promise<Parameters> {
  const given = await readTraceCase(cases + name);
  const key = JSON.stringify([given.pipeline, given.spec.uncond, given.spec.lora, limits]);
  const model = models.get(key) ??
    await openTraceModel(given, engine, { session, ...(limits && { limits }) });
  models.set(key, model);
  return await trace(given, model, { upstream });
}

for (const name of readdirSync(cases).sort()) {
  Deno.test(`${name}: every tensor is PyTorch's`, async () => {
    const actual = await replay(name);
    const expected = openSafetensors(`${cases}${name}/expected.safetensors`);
    assert.deepEqual(Object.keys(actual).sort(), [...expected.tensors.keys()].sort());
    for (const tensor of expected.tensors.keys()) {
      const error = distance(actual[tensor], await expected.readFloat32(tensor));
      const tolerance = tensor.includes("grad") ? GRADIENT_TOLERANCE : STATE_TOLERANCE;
      assert.ok(error <= tolerance, `${tensor} is ${error} off, expected at most ${tolerance}`);
    }
  });
}

Deno.test("K products run one by one give what they give as one batch", async () => {
  for (const name of ["drtune_ddpm_early", "xl_drtune_dpmpp2m_full", "draftk_ddpm"]) {
    const [whole, single] = [await replay(name), await replay(name, { products: 1 })];
    for (const [tensor, expected] of Object.entries(whole)) {
      const error = distance(single[tensor], expected);
      assert.ok(error <= 1e-5, `${name}: ${tensor} is ${error} off`);
    }
  }
});
