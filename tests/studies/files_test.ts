import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { gridRuns, readStudy, rewardNames, studyNames } from "../../services/cli/study/mod.ts";
import { parseRunConfig, UNET_DEFAULTS } from "../../trainer/mod.ts";

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

const rewardsSchema = z.array(z.looseObject({ name: z.string() }));

/** What a test reads of a run's YAML: prompts from a file, and rewards without an endpoint. */
const fieldsSchema = z.looseObject({
  prompts: z.object({ file: z.string() }),
  heldOutPrompts: z.object({ file: z.string() }),
  rewards: rewardsSchema,
  panel: z.looseObject({ rewards: rewardsSchema }).optional(),
});

/** Rewards as the trainer has them once it has filled in where they are. */
const placed = (rewards: z.infer<typeof rewardsSchema>) =>
  rewards.map((term) => ({ endpoint: "h:1", ...term }));

Deno.test("every run of every study is a configuration that a trainer takes", async (t) => {
  const stack = parse(await Deno.readTextFile(path("deploy/stack_studies.yaml")));
  const served =
    z.object({ rewards: z.array(z.object({ name: z.string() })) }).parse(stack).rewards;
  for (const name of await studyNames()) {
    const { study: whole } = await readStudy(name);
    if (whole.kind !== "grid") continue;
    // Further seeds change nothing that could be wrong.
    const study = { ...whole, seeds: whole.seeds.slice(0, 1) };
    await t.step(name, async () => {
      const runs = gridRuns({ name, study }, []);
      assert.equal(new Set(runs.map(({ id }) => id)).size, runs.length, "every run has its name");
      const known = new Set(served.map(({ name }) => name));
      assert.deepEqual(rewardNames({ name, study }).filter((reward) => !known.has(reward)), []);
      const isFlow = study.base["model"] === "flow_pipeline";
      const flow = { isFlow, samplerKind: "flow-euler" as const };
      const defaults = { ...UNET_DEFAULTS, ...isFlow && flow };
      for (const { id, fields } of runs) {
        const { prompts, heldOutPrompts, rewards, panel, ...others } = fieldsSchema.parse(fields);
        const isThere = ({ file }: { readonly file: string }) =>
          Deno.stat(path(`zoo/${file}`)).then(() => true, () => false);
        // What a study on the user's own model reads is the user's.
        if (String(others["model"]).endsWith("pipeline")) {
          assert.ok(await isThere(prompts) && await isThere(heldOutPrompts), id);
          assert.notEqual(prompts.file, heldOutPrompts.file, id);
        }
        const config = parseRunConfig({
          ...others,
          prompts: ["a fox"],
          heldOutPrompts: ["a cat", "a dog", "an owl", "a pig"],
          rewards: placed(rewards),
          ...(panel && { panel: { ...panel, rewards: placed(panel.rewards) } }),
        }, { defaults });
        assert.equal(config.budget?.seconds, study.budget, id);
        assert.match(id, /^[a-z0-9][a-z0-9._-]{0,63}$/);
      }
    });
  }
  const { study } = await readStudy("table1");
  assert.ok(study.kind === "grid");
  assert.equal(gridRuns({ name: "table1", study }, []).length, 6 * 7 * 2);
});
