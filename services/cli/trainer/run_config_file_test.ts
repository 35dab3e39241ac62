import assert from "node:assert/strict";
import { ConfigError } from "../../launch/mod.ts";
import { join } from "node:path";
import { withFolder } from "../../../tests/support/mod.ts";
import { UsageError } from "../command.ts";
import { parseRunConfig, readRunConfig } from "./run_config_file.ts";

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
  const cases: [string, string][] = [
    ["model: a\nlora:\n  rank: many\n", '3: lora.rank is "many", expected a number'],
    ["model: a\nlora:\n  ranks: 4\n", "3: lora.ranks is not known here, did you mean rank?"],
    [
      "rewards:\n  - { name: a, wieght: 1 }\n  - { name: 1 }\n",
      "2: rewards.0.wieght is not known here, did you mean weight?\n" +
      "run.yaml:3: rewards.1.name is 1, expected text",
    ],
    ["prompts: [a fox]\n", '1: prompts is ["a fox"], expected fields'],
    [
      "model: [\n",
      "2: Flow sequence in block collection must be sufficiently indented and end with a ]",
    ],
    ["12", "1: file is 12, expected fields"],
    ["", "1: file is null, expected fields"],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseRunConfig(text, "run.yaml"),
      new ConfigError(`run.yaml:${message}`),
    );
  }
});

Deno.test("a prompt file beside the configuration becomes a list, and any other stays the trainer's", () =>
  withFolder(async (folder) => {
    const path = join(folder, "run.yaml");
    await Deno.writeTextFile(
      path,
      "model: a\nprompts: { file: my prompts.txt }\nheldOutPrompts:\n  file: prompts/there.txt\n",
    );
    const beside = join(folder, "my prompts.txt");
    await Deno.writeTextFile(beside, "\ufeffa fox\r\n\n  an owl \n");
    const { prompts, heldOutPrompts } = await readRunConfig(path);
    assert.deepEqual(
      prompts?.source.case === "list" && prompts.source.value.prompts,
      ["a fox", "an owl"],
    );
    assert.deepEqual(heldOutPrompts?.source, { case: "file", value: "prompts/there.txt" });

    await Deno.writeTextFile(beside, " \n\n");
    await assert.rejects(
      readRunConfig(path),
      new UsageError(`${path}:2: prompts.file: ${beside} holds no prompt, expected one a line`),
    );
    await Deno.writeFile(beside, Uint8Array.of(0xff, 0x41));
    await assert.rejects(readRunConfig(path), /run\.yaml:2: prompts\.file: .* is not UTF-8/);
  }));
