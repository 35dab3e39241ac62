import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { float32, sizeOf } from "../../autodiff/mod.ts";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { loadReward } from "../../rewards/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { TEST_PROVIDER, TEST_SLACK } from "../../runtime/testing/mod.ts";
import {
  type Float32Tensor,
  type MemoryLimits,
  openTraceModel,
  type Parameters,
  readTraceCase,
  trace,
  type TraceModel,
} from "../../trainer/mod.ts";

// Of a tensor's own largest value. float32 PyTorch is at 2e-6 for states and images and 9e-6 for gradients.
const STATE_TOLERANCE = TEST_SLACK * 1e-5;
const GRADIENT_TOLERANCE = TEST_SLACK * 5e-5;

const cases = new URL("cases/", import.meta.url).pathname;
const engine = await openEngine({ isolation: "in-process" });
const session = { intraOpNumThreads: 1, provider: TEST_PROVIDER };
const symmetry = await loadReward({ kind: "symmetry", std: "global" }, {
  provider: TEST_PROVIDER,
  engine,
  selfCheck: false,
});
const models = new Map<string, TraceModel>();

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

async function replay(name: string, limits?: MemoryLimits): Promise<Parameters> {
  const given = await readTraceCase(cases + name);
  const { uncond, lora } = given.spec;
  const key = JSON.stringify([given.pipeline, uncond, lora, limits]);
  const model = models.get(key) ??
    await openTraceModel(given, engine, { session, ...(limits && { limits }) });
  models.set(key, model);
  return await trace(given, model, { upstream });
}

async function assertPyTorchs(name: string, limits?: MemoryLimits): Promise<void> {
  const actual = await replay(name, limits);
  const expected = openSafetensors(`${cases}${name}/expected.safetensors`);
  assert.deepEqual(Object.keys(actual).sort(), [...expected.tensors.keys()].sort());
  for (const tensor of expected.tensors.keys()) {
    const error = distance(actual[tensor], await expected.readFloat32(tensor));
    const tolerance = tensor.includes("grad") ? GRADIENT_TOLERANCE : STATE_TOLERANCE;
    assert.ok(error <= tolerance, `${tensor} is ${error} off, expected at most ${tolerance}`);
  }
}

for (const name of readdirSync(cases).sort()) {
  Deno.test(`${name}: every tensor is PyTorch's`, () => assertPyTorchs(name));
}

// One with the gradient of the input, which goes back through every step, and both kinds of pipeline.
for (const name of ["draftk_ddpm", "xl_drtune_dpmpp2m_full"]) {
  Deno.test(`${name}: every tensor is PyTorch's, checkpointed in pieces`, () =>
    assertPyTorchs(name, { memory: 1 }));
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

Deno.test("a case whose numbers do not fit one another is refused by field", async () => {
  const text = await Deno.readTextFile(`${cases}drtune_ddpm_early/case.json`);
  const folder = await Deno.makeTempDir();
  const row = [1, 4, 2, 2];
  const zeros = (...shape: number[]) => float32(new Float32Array(sizeOf(shape)), shape);
  const inputs = { x_T: zeros(...row), noise: zeros(10, ...row), image_grad: zeros(1, 3, 4, 4) };
  const nan = zeros(...row);
  nan.data[5] = NaN;
  try {
    for (
      const [change, tensors, message] of [
        [{ train_steps: [1, 11] }, {}, /Field train_steps.1 .* is 11, expected 1 to 10/],
        [{ t_min: 11 }, {}, /Field t_min .* is 11, expected 0 to 10/],
        [{ prompts: ["a", "b"] }, {}, /Field x_T .* has shape \[1,4,2,2\], expected \[2,4,2,2\]/],
        [{}, { noise: zeros(9, ...row) }, /Field noise .* has shape \[9,1,4,2,2\], expected \[10,/],
        [{}, { x_T: nan }, /Field x_T .* is NaN at 5, expected finite numbers/],
      ] as const
    ) {
      await Deno.writeTextFile(
        `${folder}/case.json`,
        JSON.stringify({ ...JSON.parse(text), ...change }),
      );
      await writeSafetensors(`${folder}/inputs.safetensors`, { ...inputs, ...tensors });
      await assert.rejects(readTraceCase(folder), message);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
