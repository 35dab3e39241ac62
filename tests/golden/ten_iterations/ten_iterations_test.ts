import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { TEST_SLACK } from "../../../runtime/testing/mod.ts";
import { seededInputs } from "./_inputs.ts";
import { CONFIG, trained } from "./_run.ts";

/** Relative; the LoRA's is of how far ten updates have moved it. Seen: 4e-7, 1.3e-6 and 6e-5. */
const TOLERANCE = {
  loss: TEST_SLACK * 5e-6,
  gradNorm: TEST_SLACK * 2e-5,
  lora: TEST_SLACK * 3e-4,
};

const file = (name: string) => new URL(name, import.meta.url).pathname;
const json = async (name: string) => JSON.parse(await readFile(file(name), "utf8"));

Deno.test("ten iterations, optimizer and all, are PyTorch's in float64", async () => {
  const { steps, lora } = await trained();
  const { config, iterations } = await json("run.json");
  // PyTorch trained with what this run draws.
  assert.deepEqual(config, CONFIG);
  assert.deepEqual(steps.map(({ prompts, plans }) => ({ prompts, plans })), iterations);
  const inputs = openSafetensors(file("inputs.safetensors"));
  const drawn = await seededInputs();
  assert.deepEqual([...inputs.tensors.keys()].sort(), Object.keys(drawn).sort());
  for (const [name, { data }] of Object.entries(drawn)) {
    assert.deepEqual((await inputs.readFloat32(name)).data, data, name);
  }

  const expected: { loss: number; scores: number[]; gradNorm: number }[] = await json(
    "expected.json",
  );
  let worst = { loss: 0, gradNorm: 0 };
  for (const [i, step] of steps.entries()) {
    const { loss, gradNorm, scores } = expected[i] ?? assert.fail();
    const off = (a: number, b: number) => Math.abs(a - b) / Math.abs(b);
    worst = {
      loss: Math.max(worst.loss, off(step.loss, loss)),
      gradNorm: Math.max(worst.gradNorm, off(step.gradNorm, gradNorm)),
    };
    for (const [j, score] of scores.entries()) {
      assert.ok(off(step.rewards.dark?.perImage[j] ?? NaN, score) < TOLERANCE.loss);
    }
  }
  const golden = openSafetensors(file("expected.safetensors"));
  assert.deepEqual([...golden.tensors.keys()].sort(), Object.keys(lora).sort());
  let [difference, moved] = [0, 0];
  for (const [name, { data }] of Object.entries(lora)) {
    const [last, first] = [await golden.readFloat32(name), drawn[`lora.${name}`] ?? assert.fail()];
    data.forEach((v, i) => {
      difference += (v - (last.data[i] ?? NaN)) ** 2;
      moved += ((last.data[i] ?? NaN) - (first.data[i] ?? NaN)) ** 2;
    });
  }
  const off = Math.sqrt(difference / moved);
  assert.ok(worst.loss < TOLERANCE.loss, `loss ${worst.loss}`);
  assert.ok(worst.gradNorm < TOLERANCE.gradNorm, `gradient norm ${worst.gradNorm}`);
  assert.ok(off < TOLERANCE.lora, `LoRA ${off}`);
});
