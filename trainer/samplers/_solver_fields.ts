import { FieldError } from "../errors.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import type { SamplerKind } from "./timesteps.ts";

/** Values of a solver's field that a sampler takes; those of other solvers of the same name are left to them. */
interface SolverField {
  readonly field: keyof SchedulerConfig;
  readonly kinds: readonly SamplerKind[];
  /** What is refused, by what is expected instead. */
  readonly refuses: (value: unknown) => string | undefined;
}

const isTrue = (value: unknown) => value === true ? "false" : undefined;

/** Fields that count for some samplers only and have values that these do not do. */
export const SOLVER_FIELDS: readonly SolverField[] = [
  { field: "clip_sample", kinds: ["ddpm", "ddim", "lcm"], refuses: isTrue },
  {
    field: "variance_type",
    kinds: ["ddpm"],
    refuses: (value) =>
      typeof value === "string" && /^(learned|fixed_large_log)/.test(value)
        ? "fixed_small, fixed_small_log or fixed_large"
        : undefined,
  },
  { field: "use_beta_sigmas", kinds: ["dpmsolver++"], refuses: isTrue },
];

/** Throws `FieldError` where a field of a sampler's own has a value that is not done here. */
export function checkSolverFields(kind: SamplerKind, config: SchedulerConfig): void {
  for (const { field, kinds, refuses } of SOLVER_FIELDS) {
    const value = config[field];
    const expected = kinds.includes(kind) ? refuses(value) : undefined;
    if (expected === undefined) continue;
    throw new FieldError(
      field,
      `is ${JSON.stringify(value)}, expected ${expected} with sampler.kind ${kind}`,
    );
  }
}
