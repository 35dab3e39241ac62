import type { SchedulerFile } from "../../models/diffusers/mod.ts";
import { parseSchedulerConfig, type SchedulerConfig } from "./scheduler_config.ts";
import type { SamplerKind } from "./timesteps.ts";

/**
 * What a user of a pipeline's scheduler file should know: where the pipeline's class corrects it, and where the sampler
 * goes another way than the file's solver. Throws as `parseSchedulerConfig`.
 */
export function schedulerRemarks(file: SchedulerFile, kind: SamplerKind): readonly string[] {
  const config = parseSchedulerConfig(file);
  return [...corrections(file, { config, kind }), ...otherWays(file, { config, kind })];
}

interface Context {
  readonly config: SchedulerConfig;
  readonly kind: SamplerKind;
}

function* corrections(
  { path, config: given, pipelineClass }: SchedulerFile,
  { config, kind }: Context,
): Generator<string> {
  const spacing = config.timestep_spacing ?? (kind === "dpmsolver++" ? "linspace" : "leading");
  const offset = given.steps_offset ?? 0;
  if (config.steps_offset !== offset && spacing === "leading") {
    yield `${path} has steps_offset ${offset}; 1 is taken, as ${pipelineClass} does in diffusers`;
  }
  if (given.clip_sample === true && !config.clip_sample && kind !== "dpmsolver++") {
    yield `${path} has clip_sample true; false is taken, as ${pipelineClass} does in diffusers`;
  }
}

function* otherWays({ path, config: given }: SchedulerFile, { config, kind }: Context) {
  if (kind !== "dpmsolver++" || given._class_name !== "DPMSolverMultistepScheduler") return;
  const { algorithm_type: algorithm = "dpmsolver++", solver_order: order } = config;
  if (algorithm !== "dpmsolver++") {
    yield `${path} has algorithm_type ${algorithm}; the sampler is dpmsolver++, without noise`;
  }
  if (order > 2) yield `${path} has solver_order ${order}; the sampler dpmsolver++ is of order 2`;
}
