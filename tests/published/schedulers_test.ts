import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { DISCRETE_SAMPLER_KINDS, makeSampler, parseSchedulerConfig } from "../../trainer/mod.ts";

// Scheduler files as published, and diffusers' timesteps after from_config of each.

const folder = new URL("./schedulers/", import.meta.url);
const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8"));
const expected = z.record(
  z.string(),
  z.partialRecord(z.enum(DISCRETE_SAMPLER_KINDS), z.array(z.number())),
)
  .parse(read("expected"));

Deno.test("published scheduler files of any class give diffusers' timesteps", () => {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name.replace(".json", ""));
  let compared = 0;
  for (const name of names.filter((name) => name !== "expected")) {
    const config = z.record(z.string(), z.unknown()).parse(read(name));
    const file = { path: `${name}.json`, className: "", pipelineClass: "", config };
    const scheduler = parseSchedulerConfig(file);
    const known = Object.entries(expected).find(([key]) => key.replace(/ *\(.*/, "") === name);
    for (const kind of DISCRETE_SAMPLER_KINDS) {
      const { steps } = makeSampler({ kind, steps: 10 }, scheduler);
      if (known?.[1][kind] === undefined) continue;
      assert.deepEqual(steps.map(({ timestep }) => timestep), known[1][kind], `${name} ${kind}`);
      compared++;
    }
  }
  assert.equal(compared, 3 * 9);
});
