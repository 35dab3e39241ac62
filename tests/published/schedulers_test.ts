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
  for (const name of names.filter((name) => name !== "expected" && name !== "steps")) {
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

const stepsSchema = z.object({
  ddim: z.array(z.object({
    config: z.record(z.string(), z.unknown()),
    steps: z.array(z.tuple([z.number(), z.number(), z.number()])),
  })),
  lcm: z.record(z.string(), z.array(z.number())),
});

Deno.test("DDIM's steps are diffusers' under every spacing, also where one leads to no timestep of the list", () => {
  const { ddim } = stepsSchema.parse(read("steps"));
  assert.equal(ddim.length, 9);
  for (const { config, steps: right } of ddim) {
    const name = `${config.timestep_spacing} ${config.prediction_type}`;
    const scheduler = parseSchedulerConfig({
      path: name,
      className: "",
      pipelineClass: "",
      config,
    });
    const { steps } = makeSampler({ kind: "ddim", steps: right.length }, scheduler);
    for (const [i, { timestep, next }] of steps.entries()) {
      const [t = NaN, x = NaN, output = NaN] = right[i] ?? [];
      assert.equal(timestep, t, name);
      // diffusers keeps the products of its alphas in float32.
      assert.ok(
        Math.abs(next.x - x) < 2e-5 * Math.max(1, Math.abs(x)),
        `${name} ${i}: ${next.x}, ${x}`,
      );
      assert.ok(Math.abs(next.output - output) < 2e-5, `${name} ${i}: ${next.output}, ${output}`);
    }
  }
});

Deno.test("LCM's timesteps are diffusers' for numbers of steps that do not divide its 50", () => {
  const { ddim: [first], lcm } = stepsSchema.parse(read("steps"));
  assert.ok(first);
  const { timestep_spacing: _, prediction_type: __, ...config } = first.config;
  const scheduler = parseSchedulerConfig({ path: "lcm", className: "", pipelineClass: "", config });
  for (const [count, right] of Object.entries(lcm)) {
    const { steps } = makeSampler({ kind: "lcm", steps: Number(count) }, scheduler);
    assert.deepEqual(steps.map(({ timestep }) => timestep), right, count);
  }
  assert.equal(Object.keys(lcm).length, 4);
});
