import assert from "node:assert/strict";
import { parse } from "yaml";
import { configText } from "./config_text.ts";

Deno.test("A configuration's text is YAML that says the same, empty fields left out", () => {
  const config = {
    model: "pipeline",
    method: { name: "drtune", k: 2, earlyStop: true },
    optimizer: { learningRate: 1e-8 },
    lora: { targets: ["to_q", "to_out.0", "12", "true: x", "true"] },
    rewards: [{ name: "clip", endpoint: "127.0.0.1:50051", weight: -0.3 }, { name: "jpeg" }],
    heldOutPrompts: "",
    seed: 0,
  };
  const { heldOutPrompts: _, ...said } = config;
  assert.deepEqual(parse(configText(config)), said);
});
