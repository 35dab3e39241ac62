import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { parseConfig } from "../parse_config.ts";
import { drawNoiseLevel, flowSchedulerConfigSchema, schedulerConfigSchema } from "./mod.ts";

const numbers = z.array(z.number());
const { clean, noise, levels } = z.object({
  clean: numbers,
  noise: numbers,
  levels: z.array(z.object({
    prediction_type: z.enum(["epsilon", "v_prediction", "sample", "flow"]),
    timestep: z.number(),
    noised: numbers,
    target: numbers,
  })),
}).parse(
  JSON.parse(readFileSync(new URL("../testdata/noise_levels.json", import.meta.url), "utf8")),
);

Deno.test("what is noised, and the right answer, are those of diffusers' training", () => {
  for (const { prediction_type, timestep, noised, target } of levels) {
    const scheduler = prediction_type === "flow"
      ? {
        ...parseConfig(flowSchedulerConfigSchema, {
          _class_name: "FlowMatchEulerDiscreteScheduler",
        }),
        family: "sd3" as const,
        tokens: 4,
      }
      : parseConfig(schedulerConfigSchema, {
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: "scaled_linear",
        prediction_type,
      });
    const level = drawNoiseLevel(scheduler, {
      integer: (low, high) => {
        assert.deepEqual([low, high], [0, 999]);
        return timestep;
      },
      uniform: () => timestep / 1000,
    });
    assert.equal(level.timestep, timestep);
    clean.forEach((c, i) => {
      const n = noise[i] ?? NaN;
      // diffusers computes its products of betas in float32.
      const close = (found: number, expected = NaN) =>
        assert.ok(Math.abs(found - expected) < 1e-4, `${prediction_type} ${timestep}`);
      close(level.alpha * c + level.sigma * n, noised[i]);
      close(level.target.clean * c + level.target.noise * n, target[i]);
    });
  }
});
