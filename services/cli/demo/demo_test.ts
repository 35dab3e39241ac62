import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { EvaluationSummarySchema } from "../../../proto/mod.ts";
import { repositoryPath } from "../../../tests/models/mod.ts";
import { readRunConfig } from "../trainer/run_config_file.ts";
import { parseCommand } from "../command.ts";
import { demo } from "../commands/demo.ts";
import { DEMO_MODELS, SCENARIOS } from "./scenarios.ts";
import { summaryText } from "./summary.ts";

const linesOf = async (path: string) =>
  (await readFile(repositoryPath(path), "utf8")).split("\n").filter(Boolean);

for (const [name, { configs, prompts, rewards, target }] of Object.entries(SCENARIOS)) {
  for (const [model, file] of Object.entries(configs)) {
    Deno.test(`demo ${name} of ${model}: its configuration has its rewards, and reports on prompts of its own`, async () => {
      const config = await readRunConfig(repositoryPath(`configs/${file}`));
      assert.ok(existsSync(repositoryPath(`zoo/${config.model}/model_index.json`)));
      const index = await linesOf(`zoo/${config.model}/model_index.json`);
      assert.equal(index.some((line) => line.includes("FlowMatch")), model === "flow");
      assert.deepEqual(config.rewards.map((r) => r.name).sort(), Object.keys(rewards).sort());
      assert.ok(target.name in rewards);
      const reported = await linesOf(`zoo/${prompts}`);
      for (const used of [config.prompts, config.heldOutPrompts]) {
        assert.equal(used?.source.case, "file");
        const lines = await linesOf(`zoo/${used.source.value}`);
        assert.deepEqual(reported.filter((line) => lines.includes(line)), []);
      }
    });
  }
}

Deno.test("the flow model's demo is one of those there are, and says which it lacks", async () => {
  const run = async (...words: string[]) => {
    await demo.run(parseCommand(demo, words), AbortSignal.abort());
  };
  await assert.rejects(run("--model", "flux"), /--model is "flux", expected unet or flow/);
  await assert.rejects(
    run("--model", "flow", "--reward", "symmetry"),
    /--reward is "symmetry", which the demo of flow does not have/,
  );
});

Deno.test("a demo's summary says what was trained, and whether it got better", () => {
  const scenario = SCENARIOS["objectness"];
  assert.ok(scenario);
  const found = { before: 0.8, after: 0.5, difference: -0.3, lower: -0.4, smallerIsBetter: true };
  const text = (upper: number) =>
    summaryText({
      ...{ scenario, model: "flow", prompts: 8, seeds: 3, iterations: 40, trainingSeconds: 90 },
      files: { LoRA: "lora.safetensors" },
      summary: create(EvaluationSummarySchema, {
        pairs: 24,
        rewards: { objectness: { ...found, upper } },
      }),
    });
  assert.match(text(-0.2), new RegExp(`40 iterations of DRTune on ${DEMO_MODELS.flow}, in 90 s`));
  assert.match(text(-0.2), /objectness is to go down: it did, beyond chance/);
  assert.match(text(0.1), /it did not, or no further than by chance/);
});
