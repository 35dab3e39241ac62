import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { z } from "zod";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { openEngine } from "../../../runtime/mod.ts";
import { TEST_PROVIDER } from "../../../runtime/testing/mod.ts";
import {
  closedForm,
  type Float32Tensor,
  flowCaseSampler,
  flowCaseSchema,
  openTraceModel,
  readTraceCase,
  trace,
} from "../../../trainer/mod.ts";

/*
 * Whole training steps against plain autograd of PyTorch in float64, every method through `drtune trace`. The gates are
 * design/flow.md's for float32: of a tensor's largest value, gradients' of their own largest plus 1e-6 of the set's.
 */
const STATE = 1e-4;
const [GRADIENT, GRADIENT_SET] = [1e-3, 1e-6];

const cases = new URL("cases/", import.meta.url).pathname;
const engine = await openEngine({ isolation: "in-process" });
const session = { intraOpNumThreads: 1, provider: TEST_PROVIDER };

const largest = ({ data }: Float32Tensor) => data.reduce((m, v) => Math.max(m, Math.abs(v)), 0);

for (const name of readdirSync(cases).sort()) {
  Deno.test(`${name}: every tensor is PyTorch's`, async () => {
    const given = await readTraceCase(cases + name);
    const model = await openTraceModel(given, engine, { session });
    const actual = await trace(given, model).finally(() => model.dispose());
    const source = openSafetensors(`${cases}${name}/expected.safetensors`);
    assert.deepEqual(Object.keys(actual).sort(), [...source.tensors.keys()].sort());
    const expected: Record<string, Float32Tensor> = {};
    for (const key of source.tensors.keys()) expected[key] = await source.readFloat32(key);
    const sets: Record<string, number> = {};
    for (const [key, tensor] of Object.entries(expected)) {
      const [set = ""] = key.split(".");
      sets[set] = Math.max(sets[set] ?? 0, largest(tensor));
    }
    for (const [key, tensor] of Object.entries(expected)) {
      const found = actual[key];
      assert.deepEqual(found?.shape, tensor.shape, key);
      const most = largest(tensor);
      const error = tensor.data.reduce(
        (m, v, i) => Math.max(m, Math.abs(v - (found?.data[i] ?? NaN))),
        0,
      );
      const [set = ""] = key.split(".");
      // What is zero in PyTorch, as the last block's text queries, is zero.
      const gate = most === 0
        ? 0
        : set.startsWith("grad")
        ? GRADIENT * most + GRADIENT_SET * (sets[set] ?? 0)
        : STATE * most;
      assert.ok(error <= gate, `${key} is ${error} off, expected at most ${gate}`);
    }
  });
}

Deno.test("levels of the cases are those in their files, to the last bit", () => {
  const levels = z.looseObject({
    sigma: z.array(z.number()),
    h: z.array(z.number()),
    timesteps: z.array(z.number()),
  });
  for (const name of readdirSync(cases)) {
    const value: unknown = JSON.parse(readFileSync(`${cases}${name}/case.json`, "utf8"));
    const { sigma, h, timesteps } = levels.parse(value);
    const sampler = flowCaseSampler(flowCaseSchema.parse(value));
    assert.deepEqual(sampler.steps.map((s) => s.sigma), sigma.slice(0, -1));
    assert.deepEqual(sampler.steps.map((s) => s.timestep), timesteps);
    assert.deepEqual(closedForm(sampler), h);
  }
});

Deno.test("a flow's case whose numbers do not fit one another is refused by field", async () => {
  const text = await Deno.readTextFile(`${cases}sd3_lagrange/case.json`);
  const folder = await Deno.makeTempDir();
  try {
    await Deno.copyFile(
      `${cases}sd3_lagrange/inputs.safetensors`,
      `${folder}/inputs.safetensors`,
    );
    for (
      const [change, message] of [
        [{ j: 10 }, /Field j .* is 10, expected 0 to 9/],
        [{ k: null }, /Field k /],
        [{ method: "drtune" }, /Field train_indices .* expected a value with method drtune/],
        [{ prompts: ["a", "b"] }, /Field x_T .* has shape \[1,16,16,16\], expected \[2,16,16,16\]/],
        [{ alpha: 1.5 }, /Field alpha /],
      ] as const
    ) {
      await Deno.writeTextFile(
        `${folder}/case.json`,
        JSON.stringify({ ...JSON.parse(text), ...change }),
      );
      await assert.rejects(readTraceCase(folder), message);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
