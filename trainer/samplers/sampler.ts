import { FieldError } from "../errors.ts";
import { makeFlowSampler } from "./flow_sampler.ts";
import { isFlow, type Scheduler } from "./flow_scheduler_config.ts";
import { discreteLevels, type Level, levelAt, multistepLevels, trainingSigmas } from "./_levels.ts";
import type { Linear, Sampler, SamplerOptions, SamplerStep } from "./sampler_types.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { checkSolverFields } from "./_solver_fields.ts";
import type { DiscreteSamplerKind } from "./timesteps.ts";

export type { Linear, Sampler, SamplerOptions, SamplerStep };

/** x_{i+1} in terms of x_i, m_i, m_{i-1}, the predicted noise and fresh noise. */
interface Update {
  readonly x?: number;
  readonly clean?: number;
  readonly previous?: number;
  readonly eps?: number;
  readonly noise?: number;
}

/**
 * The coefficients of a sampler on a model's noise schedule, as diffusers' schedulers have them. Throws `FieldError`
 * when a field is out of range or a combination is not defined.
 */
export function makeSampler(options: SamplerOptions, config: Scheduler): Sampler {
  const { kind, steps, eta = 0 } = options;
  if (!Number.isInteger(steps) || steps < 1) {
    throw new FieldError("sampler.steps", `is ${steps}, expected an integer of 1 or more`);
  }
  if (!(eta >= 0 && eta <= 1) || (eta !== 0 && kind !== "ddim")) {
    const expected = kind === "ddim" ? "0 to 1" : `0 with sampler.kind ${kind}`;
    throw new FieldError("sampler.eta", `is ${eta}, expected ${expected}`);
  }
  if (options.karrasSigmas === true && kind !== "dpmsolver++") {
    throw new FieldError(
      "sampler.karrasSigmas",
      `is true, expected false with sampler.kind ${kind}`,
    );
  }
  if (options.sigmas !== undefined && !isFlow(config)) {
    throw new FieldError(
      "sampler.sigmas",
      `is "${options.sigmas}", expected none: the model is no flow`,
    );
  }
  if (isFlow(config)) return makeFlowSampler(options, config);
  if (kind === "flow-euler") {
    throw new FieldError(
      "sampler.kind",
      `is "flow-euler", expected ${Object.keys(TABLES).join(", ")}: the model is no flow`,
    );
  }
  checkSolverFields(kind, config);
  const { levels, updates } = TABLES[kind]({ ...options, kind }, config);
  const blind = levels.find(({ alpha }) => alpha === 0);
  if (blind !== undefined && config.prediction_type === "epsilon") {
    throw new FieldError(
      "rescale_betas_zero_snr",
      `is true with prediction_type epsilon, which says nothing where all is noise: expected ` +
        `other steps, or a timestep_spacing that leaves out timestep ${blind.timestep}`,
    );
  }
  const at = updates.findIndex((u) => !Object.values(u).every(Number.isFinite));
  if (at >= 0) {
    throw new FieldError(
      "sampler.steps",
      `is ${steps}, expected fewer: step ${at + 1} has the noise of the one before it`,
    );
  }
  return {
    kind,
    isFlow: false,
    steps: levels.map((level, i) => {
      const { clean, eps } = predictions(level, config.prediction_type);
      const u = updates[i] ?? {};
      const combine = (key: keyof Linear) =>
        (key === "x" ? u.x ?? 0 : 0) + (u.clean ?? 0) * clean[key] + (u.eps ?? 0) * eps[key];
      return {
        ...level,
        next: {
          x: combine("x"),
          output: combine("output"),
          previous: u.previous ?? 0,
          noise: u.noise ?? 0,
        },
        clean,
        eps,
      };
    }),
  };
}

/** The sampler that ends at step `index` (0 is the noisiest) with the one-step prediction of the clean sample. */
export function stopAt(sampler: Sampler, index: number): Sampler {
  const stop = sampler.steps[index];
  if (stop === undefined) {
    throw new RangeError(`Stop ${index} is no step of a sampler of ${sampler.steps.length}`);
  }
  const next = { ...stop.clean, previous: 0, noise: 0 };
  return { ...sampler, steps: [...sampler.steps.slice(0, index), { ...stop, next }] };
}

/** Standard deviation of the data in a consistency model's boundary condition (diffusers' `sigma_data`). */
const CONSISTENCY_DEVIATION = 0.5;

/** Of a model with discrete betas. */
export type DiscreteSamplerOptions = SamplerOptions & { readonly kind: DiscreteSamplerKind };

type Table = (
  options: DiscreteSamplerOptions,
  config: SchedulerConfig,
) => { readonly levels: readonly Level[]; readonly updates: readonly Update[] };

const TABLES: Readonly<Record<DiscreteSamplerKind, Table>> = {
  ddpm(options, config) {
    const { alphas, levels } = discreteLevels(options, config);
    const isLarge = config.variance_type === "fixed_large";
    const updates = levels.map(({ timestep }, i) => {
      const a = alphas(timestep);
      const following = levels[i + 1];
      const p = following === undefined ? 1 : alphas(following.timestep);
      const beta = 1 - a / p;
      return {
        x: Math.sqrt(a / p) * (1 - p) / (1 - a),
        clean: Math.sqrt(p) * beta / (1 - a),
        noise: timestep > 0
          ? Math.sqrt(isLarge ? beta : Math.max((1 - p) / (1 - a) * beta, 1e-20))
          : 0,
      };
    });
    return { levels, updates };
  },

  ddim(options, config) {
    const { alphas, levels } = discreteLevels(options, config);
    const stride = Math.floor(config.num_train_timesteps / options.steps);
    const updates = levels.map(({ timestep }) => {
      const a = alphas(timestep);
      const before = timestep - stride;
      const p = before >= 0 ? alphas(before) : config.set_alpha_to_one ? 1 : alphas(0);
      const variance = (options.eta ?? 0) ** 2 * (1 - p) / (1 - a) * (1 - a / p);
      return {
        clean: Math.sqrt(p),
        eps: Math.sqrt(Math.max(1 - p - variance, 0)),
        noise: Math.sqrt(variance),
      };
    });
    return { levels, updates };
  },

  // Luo et al., "Latent Consistency Models" (2310.04378), algorithm 3: to the clean sample, and back by fresh noise.
  lcm(options, config) {
    const { alphas, levels } = discreteLevels(options, config);
    const updates = levels.map(({ timestep }, i) => {
      const t = timestep * config.timestep_scaling;
      const spread = t * t + CONSISTENCY_DEVIATION ** 2;
      const [skip, out] = [CONSISTENCY_DEVIATION ** 2 / spread, t / Math.sqrt(spread)];
      const following = levels[i + 1];
      const p = following === undefined ? 1 : alphas(following.timestep);
      return { x: Math.sqrt(p) * skip, clean: Math.sqrt(p) * out, noise: Math.sqrt(1 - p) };
    });
    return { levels, updates };
  },

  // Lu et al., "DPM-Solver++" (2211.01095), algorithm 2, in the midpoint form of diffusers or Heun's.
  "dpmsolver++"(options, config) {
    const T = options.steps;
    const levels = multistepLevels(options, config);
    const isHeun = config.solver_type === "heun";
    const zero = config.final_sigmas_type === "zero";
    const end = zero ? { alpha: 1, sigma: 0 } : levelAt(trainingSigmas(config)[0] ?? 0);
    const logSnr = ({ alpha, sigma }: { alpha: number; sigma: number }) => Math.log(alpha / sigma);
    const updates = levels.map((level, i) => {
      const next = levels[i + 1] ?? end;
      const previous = levels[i - 1];
      const h = logSnr(next) - logSnr(level);
      const gain = next.alpha * (1 - Math.exp(-h));
      const lower = i === T - 1 &&
        (config.euler_at_final || (config.lower_order_final && T < 15) || zero);
      const x = next.sigma / level.sigma;
      if (previous === undefined || lower || config.solver_order === 1) return { x, clean: gain };
      // The slope between the last two predictions goes on for half a step, or is integrated over it.
      const slope = next.alpha * (isHeun ? (Math.exp(-h) - 1) / h + 1 : (1 - Math.exp(-h)) / 2);
      const change = slope * h / (logSnr(level) - logSnr(previous));
      return { x, clean: gain + change, previous: -change };
    });
    return { levels, updates };
  },
};

/** Clean sample and noise from x = alpha·clean + sigma·noise and what the denoiser predicts. */
function predictions(
  { alpha, sigma }: Level,
  type: SchedulerConfig["prediction_type"],
): { clean: Linear; eps: Linear } {
  switch (type) {
    case "epsilon":
      return { clean: { x: 1 / alpha, output: -sigma / alpha }, eps: { x: 0, output: 1 } };
    case "sample":
      return { clean: { x: 0, output: 1 }, eps: { x: 1 / sigma, output: -alpha / sigma } };
    case "v_prediction":
      return { clean: { x: alpha, output: -sigma }, eps: { x: sigma, output: alpha } };
  }
}
