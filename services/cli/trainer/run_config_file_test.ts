import assert from "node:assert/strict";
import { parseRunConfig } from "./run_config_file.ts";

Deno.test("parseRunConfig reads YAML in either spelling", () => {
  const config = parseRunConfig(
    "model: pipeline\nmethod: {name: drtune, k: 2}\noptimizer:\n  learningRate: 5.0e-4\n  max_grad_norm: 0.1\n",
    "run.yaml",
  );
  assert.equal(config.model, "pipeline");
  assert.equal(config.method?.k, 2);
  assert.equal(config.optimizer?.learningRate, 5e-4);
  assert.equal(config.optimizer?.maxGradNorm, 0.1);
});

Deno.test("parseRunConfig names file, line, field, found and expected", () => {
  const cases: [string, RegExp][] = [
    ["model: a\nlora:\n  rank: many\n", /^run\.yaml:3: .*LoraConfig\.rank.*expected.*int32.*many/],
    ["model: a\nlora:\n  ranks: 4\n", /^run\.yaml:3: .*ranks/],
    ["model: [\n", /^run\.yaml:2: /],
    ["12", /^run\.yaml: found number/],
    ["", /^run\.yaml: found nothing/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseRunConfig(text, "run.yaml"), { name: "UsageError", message });
  }
});
