import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PUBLISHED_PIPELINES } from "../../../models/published/mod.ts";
import { prepareRunConfig } from "../../../trainer/mod.ts";
import { withFolder } from "../../../tests/support/mod.ts";
import { parseCommand, UsageError } from "../command.ts";
import { modelPlace } from "../plan/model_place.ts";
import { plannedConfig } from "../plan/planned_config.ts";
import { readStack } from "../stack/read_stack.ts";
import { readRunConfig } from "../trainer/run_config_file.ts";
import { init } from "./init.ts";

const ZOO = fileURLToPath(new URL("../../../zoo", import.meta.url));

/** What was printed. */
async function run(...words: readonly string[]): Promise<string> {
  const said: string[] = [];
  const { log } = console;
  console.log = (text: string) => said.push(text);
  try {
    assert.equal(await init.run(parseCommand(init, words), new AbortController().signal), 0);
    return said.join("\n");
  } finally {
    console.log = log;
  }
}

async function readProject(folder: string) {
  return [
    await readStack(join(folder, "stack.yaml")),
    await readRunConfig(join(folder, "run.yaml")),
  ] as const;
}

for (const name of Object.keys(PUBLISHED_PIPELINES)) {
  for (const provider of ["cpu", "cuda"]) {
    Deno.test(`A project of ${name} on ${provider} is one that stack and trainer take as it is`, () =>
      withFolder(async (root) => {
        const folder = join(root, "My first (try)");
        const text = await run(
          folder,
          "--model",
          name,
          "--reward",
          "hpsv2,symmetry",
          "--provider",
          provider,
        );
        assert.match(text, new RegExp(`fetch ${name} hpsv2\\.1`));
        const [stack, config] = await readProject(folder);
        assert.deepEqual(stack.rewards.map((r) => [r.name, r.provider]), [
          ["hpsv2", provider],
          ["symmetry", provider],
        ]);
        assert.equal(stack.name, "my-first-try-");
        assert.equal(stack.models, join(folder, "models"));
        assert.deepEqual(config.rewards.map((r) => r.name), ["hpsv2", "symmetry"]);
        await using place = await modelPlace(stack.models, config.model);
        await prepareRunConfig(plannedConfig(config, { memoryLimit: 8 }), { root: place.root });
      }));
  }
}

Deno.test("A model and prompts of one's own: prompts are split, and nothing is fetched", () =>
  withFolder(async (root) => {
    const prompts = join(root, "mine.txt");
    await Deno.writeTextFile(
      prompts,
      Array.from({ length: 6 }, (_, i) => `prompt ${i}\n`).join("\n"),
    );
    const folder = join(root, "p");
    const words = [folder, "--model", join(ZOO, "pipeline"), "--prompts", prompts];
    const text = await run(...words, "--reward", "jpeg", "--iterations", "3");
    assert.doesNotMatch(text, /fetch/);
    const [stack, config] = await readProject(folder);
    assert.equal(stack.models, ZOO);
    assert.deepEqual([config.model, config.iterations], ["pipeline", 3]);
    const list = (source: typeof config.prompts) =>
      source?.source.case === "list" ? source.source.value.prompts.join() : "";
    assert.equal(list(config.prompts), "prompt 0,prompt 2,prompt 3,prompt 4");
    assert.equal(list(config.heldOutPrompts), "prompt 1,prompt 5");

    const before = await Deno.readTextFile(join(folder, "run.yaml"));
    await Deno.remove(join(folder, "stack.yaml"));
    await assert.rejects(run(...words), /run\.yaml is there already: name another folder/);
    assert.equal(await Deno.readTextFile(join(folder, "run.yaml")), before);
    await assert.rejects(Deno.stat(join(folder, "stack.yaml")), Deno.errors.NotFound);
  }));

Deno.test("Wrong words name what was expected, and write nothing", () =>
  withFolder(async (root) => {
    const folder = join(root, "p");
    const one = join(root, "one.txt");
    await Deno.writeTextFile(one, "a fox\n");
    const cases: [string[], RegExp][] = [
      [["--model", "sd51"], /Model is "sd51", .* expected one, or OWNER\/NAME, or sd15, sd21, /],
      [["--reward", "picscore"], /Reward is "picscore", .* did you mean pickscore\?/],
      [["--reward", "jpeg,jpeg"], /Reward is "jpeg", expected each of .* once$/],
      [["--reward", ","], /Reward is ",", expected/],
      [["--provider", "gpu"], /Provider is "gpu", expected cpu, /],
      [["--prompts", join(root, "none.txt")], /Prompt file .*none\.txt does not exist/],
      [["--prompts", one], /one\.txt holds 1 prompts, expected at least 2/],
      [["a", "b"], /Unexpected "b"/],
    ];
    for (const [words, message] of cases) {
      const all = words[0] === "a" ? words : [folder, ...words];
      await assert.rejects(run(...all), (error) => {
        assert.ok(error instanceof UsageError, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
    await assert.rejects(Deno.stat(folder), Deno.errors.NotFound);
  }));
