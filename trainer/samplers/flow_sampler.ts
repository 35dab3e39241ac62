import { FieldError } from "../errors.ts";
import { linspace } from "./_linspace.ts";
import type { FlowScheduler, FlowSchedulerConfig } from "./flow_scheduler_config.ts";
import { type FlowSigmas, flowSigmas, pipelineSigmas, type SigmaInput } from "./flow_sigmas.ts";
import type { Sampler, SamplerOptions, SamplerStep } from "./sampler_types.ts";

/**
 * The coefficients of a sampler on a flow-matching model's noise levels: x = (1 - sigma) clean + sigma noise, of which
 * the model predicts the velocity noise - clean. "flow-euler" is diffusers' FlowMatchEulerDiscreteScheduler,
 * "dpmsolver++" its DPMSolverMultistepScheduler with `use_flow_sigmas` and the flow's shift.
 */
export function makeFlowSampler(options: SamplerOptions, scheduler: FlowScheduler): Sampler {
  if (scheduler.invert_sigmas) {
    throw new FieldError(
      "invert_sigmas",
      "is true, expected false: no sampler here has levels that rise",
    );
  }
  switch (options.kind) {
    case "flow-euler":
      return flowEuler(scheduler, {
        steps: options.steps,
        ...pipelineSigmas(scheduler, { steps: options.steps, range: options.sigmas }),
      });
    case "dpmsolver++":
      return multistep(options, scheduler);
    default:
      throw new FieldError(
        "sampler.kind",
        `is "${options.kind}", expected "flow-euler" or "dpmsolver++": the model predicts a flow's velocity`,
      );
  }
}

/** Euler's steps through the levels that `input` lays out. */
export function flowEuler(
  scheduler: FlowSchedulerConfig,
  { steps, ...input }: SigmaInput & { readonly steps: number },
): Sampler {
  const { sigmas, timesteps } = flowSigmas(scheduler, { steps, ...input });
  return {
    kind: "flow-euler",
    isFlow: true,
    steps: timesteps.map((timestep, i) => {
      const [sigma = NaN, next = NaN] = [sigmas[i], sigmas[i + 1]];
      // Stochastic: the clean sample is predicted and noised anew.
      const step = scheduler.stochastic_sampling
        ? { x: 1 - next, output: -(1 - next) * sigma, previous: 0, noise: next }
        : { x: 1, output: next - sigma, previous: 0, noise: 0 };
      return { timestep, ...velocity(sigma), next: step };
    }),
  };
}

/** Lu et al., "DPM-Solver++" (2211.01095), algorithm 2, with alpha = 1 - sigma. */
function multistep(
  { steps, karrasSigmas, sigmas: range }: SamplerOptions,
  scheduler: FlowScheduler,
): Sampler {
  const other =
    (["shift_terminal", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const)
      .find((name) => scheduler[name]);
  if (other !== undefined || karrasSigmas) {
    throw new FieldError(
      "sampler.kind",
      `is "dpmsolver++", expected "flow-euler" with ${other ?? "sampler.karrasSigmas"}`,
    );
  }
  if (range !== undefined) {
    throw new FieldError(
      "sampler.sigmas",
      `is "${range}", expected none with sampler.kind dpmsolver++`,
    );
  }
  const { sigmas, timesteps } = solverSigmas(scheduler, steps);
  const logSnr = (sigma: number) => Math.log((1 - sigma) / sigma);
  return {
    kind: "dpmsolver++",
    isFlow: true,
    steps: timesteps.map((timestep, i): SamplerStep => {
      const [before, sigma = NaN, after = NaN] = [sigmas[i - 1], sigmas[i], sigmas[i + 1]];
      const step = velocity(sigma);
      const h = logSnr(after) - logSnr(sigma);
      const gain = (1 - after) * (1 - Math.exp(-h));
      const half = before === undefined || after === 0
        ? 0
        : h / (2 * (logSnr(sigma) - logSnr(before)));
      const clean = gain * (1 + half);
      return {
        timestep,
        ...step,
        next: {
          x: after / sigma + clean * step.clean.x,
          output: clean * step.clean.output,
          previous: -gain * half,
          noise: 0,
        },
      };
    }),
  };
}

/** DPMSolverMultistepScheduler's levels with `use_flow_sigmas`: the greatest is just below 1, where the solver would divide by 0. */
function solverSigmas(scheduler: FlowScheduler, steps: number): FlowSigmas {
  const n = scheduler.num_train_timesteps;
  const { mu } = pipelineSigmas(scheduler, { steps });
  const linear = scheduler.time_shift_type === "linear";
  const shift = mu === undefined ? scheduler.shift : linear ? mu : Math.exp(mu);
  const sigmas = linspace(1, 1 / n, steps + 1).map((alpha) => {
    const sigma = 1 - alpha;
    return shift * sigma / (1 + (shift - 1) * sigma);
  }).reverse();
  // diffusers gives the model whole timesteps here.
  const timesteps = sigmas.slice(0, -1).map((s) => Math.trunc(s * n));
  return { sigmas: sigmas.map(Math.fround), timesteps };
}

/** What a velocity o says of x = (1 - sigma) clean + sigma noise. */
function velocity(sigma: number): Pick<SamplerStep, "alpha" | "sigma" | "clean" | "eps"> {
  return {
    alpha: 1 - sigma,
    sigma,
    clean: { x: 1, output: -sigma },
    eps: { x: 1, output: 1 - sigma },
  };
}
