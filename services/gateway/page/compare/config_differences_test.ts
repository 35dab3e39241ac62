import assert from "node:assert/strict";
import { configDifferences } from "./config_differences.ts";

Deno.test("Fields that differ are listed by path, rewards by their names, prompts by their digests", () => {
  const reward = (name: string, weight: number) => ({ name, weight });
  const a = {
    model: "pipeline",
    lora: { rank: 4, targets: ["to_q"] },
    rewards: [reward("clip", 1), reward("symmetry", 0.5)],
    prompts: { sha256: "ab", count: 2, list: { prompts: ["a fox", "an owl"] } },
  };
  const b = {
    model: "pipeline",
    lora: { rank: 8, targets: ["to_q", "to_k"] },
    rewards: [reward("symmetry", 0.5), reward("clip", 2)],
    prompts: { sha256: "cd", count: 2, list: { prompts: ["a fox", "an eel"] } },
    seed: 1,
  };
  assert.deepEqual(configDifferences([a, b]), [
    { field: "lora.rank", values: ["4", "8"] },
    { field: "lora.targets", values: ["to_q", "to_q, to_k"] },
    { field: "rewards.clip.weight", values: ["1", "2"] },
    { field: "prompts.sha256", values: ["ab", "cd"] },
    { field: "seed", values: ["", "1"] },
  ]);
  assert.deepEqual(configDifferences([a, a, a]), []);
});
