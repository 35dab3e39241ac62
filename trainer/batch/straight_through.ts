import { FieldError } from "../errors.ts";
import type { Bridge, Leap, Surrogate } from "../methods/mod.ts";
import {
  closedForm,
  isStochastic,
  odePath,
  quadratureWeights,
  type Sampler,
} from "../samplers/mod.ts";

/** Factors by index of the step, 0 the noisiest. */
export type Weights = ReadonlyMap<number, number>;

/** A value as a linear combination of a trajectory's latents and outputs. */
export interface Prediction {
  readonly x: Weights;
  readonly outputs: Weights;
}

/**
 * The closed form of a straight-through method: what reaches each active output of the gradient g = d loss / d z at the
 * sampled latent z. Second part: factor g. First part: factor (`identity` g + `alpha` J^T second_j g), with J the
 * Jacobian of the output at x_j: one nested product whatever is trained.
 */
export interface StraightThrough {
  readonly second: Weights;
  readonly bridge?: {
    readonly step: number;
    readonly first: Weights;
    /** d z / d x_j without the network at x_j. */
    readonly identity: number;
    readonly alpha: number;
    /** What x_j and z are predicted as, of methods with leaps. */
    readonly predictions?: { readonly xj: Prediction; readonly z: Prediction };
    readonly tau?: number;
  };
}

/**
 * The factors of a selection's surrogate on a sampler's levels. Throws `FieldError` where the method is not defined: leaps
 * need a sampler without noise, a bridge one without memory.
 */
export function straightThrough(
  sampler: Sampler,
  { surrogate, trainSteps }: {
    readonly surrogate: Surrogate;
    /** Numbered as in the paper. */
    readonly trainSteps: readonly number[];
  },
): StraightThrough {
  const T = sampler.steps.length;
  const { bridge, rescale, window: [noisiest, last] = [T, 1] } = surrogate;
  if (bridge?.leaps !== undefined) return leaps(sampler, { bridge, rescale });
  const active = trainSteps.map((t) => T - t);
  const kappa = closedForm(sampler);
  const all = kappa.slice(T - noisiest, T - last + 1);
  const rho = rescaling(all, { active: active.map((i) => kappa[i] ?? 0), rescale });
  const scaled = (indices: readonly number[], by: readonly number[]) =>
    new Map(indices.map((i) => [i, rho * (by[i] ?? 0)] as const));
  if (bridge === undefined) return { second: scaled(active, kappa) };
  if (sampler.steps.some(({ next }) => next.previous !== 0)) {
    throw new FieldError(
      "sampler.kind",
      `is "${sampler.kind}", which remembers a prediction, expected a sampler without memory: the ` +
        "bridge's state would not be all that the second part starts from",
    );
  }
  const j = T - bridge.step;
  const [first, second] = [sampler.steps.slice(0, j), sampler.steps.slice(j)];
  return {
    second: scaled(active.filter((i) => i >= j), kappa),
    bridge: {
      step: j,
      // Of x_j with every input detached, as kappa is of z.
      first: scaled(active.filter((i) => i < j), closedForm({ ...sampler, steps: first })),
      // Without memory x passes every step by one factor.
      identity: second.reduce((product, { next }) => product * next.x, 1),
      alpha: bridge.alpha,
    },
  };
}

/** 1 + g (sum of all / sum of the active ones - 1), in absolute values. */
function rescaling(
  all: readonly number[],
  { active, rescale }: { readonly active: readonly number[]; readonly rescale: number },
): number {
  const sum = (values: readonly number[]) => values.reduce((s, v) => s + Math.abs(v), 0);
  const some = sum(active);
  return rescale === 0 || some <= 1e-8 ? 1 : 1 + rescale * (sum(all) / some - 1);
}

function leaps(
  sampler: Sampler,
  { bridge, rescale }: { readonly bridge: Bridge; readonly rescale: number },
): StraightThrough {
  const { leaps, alpha } = bridge;
  const T = sampler.steps.length;
  if (leaps === undefined) throw new TypeError("A bridge without leaps");
  if (isStochastic(sampler)) {
    throw new FieldError(
      "sampler.kind",
      `is "${sampler.kind}", which draws noise, expected one that draws none: a leap follows no noise`,
    );
  }
  const { scale, time, rate } = odePath(sampler);
  const at = (values: readonly number[], i: number) => values[i] ?? NaN;
  const hop = (leap: Leap, { to, anchor }: { readonly to: number; readonly anchor: number }) => {
    const supports = leap.supports.map((t) => T - t);
    const active = new Set(leap.active.map((t) => T - t));
    const from = supports[0] ?? 0;
    const [low, high] = [at(time, from), at(time, to)];
    const exact = leaps.weights === "uniform"
      ? supports.map(() => (high - low) / supports.length)
      : quadratureWeights(supports.map((i) => at(time, i)), low, high);
    const rho = rescaling(exact, {
      active: exact.filter((_, n) => active.has(supports[n] ?? -1)),
      rescale,
    });
    const weights = new Map<number, number>();
    const values = new Map<number, number>();
    for (const [n, i] of supports.entries()) {
      const w = exact[n] ?? 0;
      const euler = i === from ? (1 - anchor) * (high - low) : 0;
      values.set(i, anchor * w + euler);
      const through = active.has(i) ? anchor * rho * w * (i === from ? 1 : leaps.supportScale) : 0;
      if (through !== 0 || euler !== 0) weights.set(i, through + euler);
    }
    return { from, weights, values };
  };
  const j = T - bridge.step;
  const first = hop(leaps.first, { to: j, anchor: leaps.anchor });
  const second = hop(leaps.second, { to: T, anchor: 1 });
  const outputs = (weights: Weights, to: number) =>
    new Map([...weights].map(([i, w]) => [i, at(scale, to) * w * (rate[i]?.output ?? NaN)]));
  /** What a leap predicts: scale (x_from / scale_from + sum of weighted rates). */
  const predicted = ({ from, values }: { from: number; values: Weights }, to: number) => {
    const x = new Map([[from, at(scale, to) / at(scale, from)]]);
    for (const [i, w] of values) {
      x.set(i, (x.get(i) ?? 0) + at(scale, to) * w * (rate[i]?.x ?? NaN));
    }
    return { x, outputs: outputs(values, to) };
  };
  return {
    second: outputs(second.weights, T),
    bridge: {
      step: j,
      first: outputs(first.weights, j),
      identity: at(scale, T) *
        (1 / at(scale, j) + alpha * (second.weights.get(j) ?? 0) * (rate[j]?.x ?? NaN)),
      alpha,
      predictions: { xj: predicted(first, j), z: predicted(second, T) },
      ...(leaps.tau !== undefined && { tau: leaps.tau }),
    },
  };
}
