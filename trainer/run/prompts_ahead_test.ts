import assert from "node:assert/strict";
import { fakeModel } from "../testing/fake_networks.ts";
import { parseRunConfig, PromptsAhead } from "./mod.ts";

Deno.test("A run resumed with more iterations has the prompts of many encoded together", async () => {
  const config = parseRunConfig({
    model: "tiny-sd",
    prompts: ["a fox", "a cat"],
    rewards: [{ name: "dark", endpoint: "dark" }],
    iterations: 3,
  });
  const { model } = fakeModel();
  let prepared = 0;
  const prepare = () => Promise.resolve(void prepared++);
  const ahead = new PromptsAhead({ ...model, prompts: { ...model.prompts, prepare } }, {
    config,
    isInterrupted: () => false,
    say: () => Promise.resolve(),
  });
  for (let step = 0; step < 3; step++) await ahead.prepare(step, 3);
  assert.equal(prepared, 1);
  for (let step = 3; step < 60; step++) await ahead.prepare(step, 60);
  assert.equal(prepared, 2);
});
