import type { Draws } from "./_draws.ts";
import { type MethodConfig, trainableSteps } from "./method_config.ts";
import { type Method, METHODS, type SurrogateDraw, type SurrogateParameters } from "./methods.ts";
import { type Bridge, type Leap, supportsOf, type Surrogate } from "./surrogate.ts";

/** Which sampling steps one iteration trains, and how. Steps are numbered as in the paper: T is the noisiest, 1 the last. */
export interface StepSelection {
  /** Ascending. Those below `tMin` are never reached. */
  readonly trainSteps: readonly number[];
  /** The step after which sampling ends with the one-step prediction; 0: sampling goes to the end. */
  readonly tMin: number;
  readonly inputStopGradient: boolean;
  readonly redraws: number;
  /** Of methods that predict what was sampled anew; absent: gradients go through sampling itself. */
  readonly surrogate?: Surrogate;
}

/**
 * Draws the steps that one iteration trains. The stop is never drawn above the noisiest trained step, so that something is trained;
 * the paper's settings (K > 1, m at most half of T) never come near that bound.
 */
export function selectSteps(
  config: MethodConfig,
  { T, random }: { readonly T: number; readonly random: Draws },
): StepSelection {
  const method: Method = METHODS[config.name];
  const { trains, redraws } = method;
  if (trains === "surrogate" || method.surrogate !== undefined) {
    return surrogateSelection(config, { T, random, method });
  }
  const { m = 0, k: K = 0, inputStopGradient, stepRule: rule = "trajectory" } = config;
  const rest = { inputStopGradient, redraws };
  if (rule === "prefix" && trains !== "stop") {
    // What is executed is drawn first.
    const tMin = m === 0 ? 0 : random.integer(1, m);
    const executed = tMin === 0 ? T : T - tMin + 1;
    return { trainSteps: trains({ T, K, random, executed, rule }), tMin, ...rest };
  }
  const steps = trains === "stop" ? undefined : trains({ T, K, random, executed: T, rule });
  const highest = Math.min(m, steps?.at(-1) ?? T);
  const tMin = config.m === undefined ? 0 : random.integer(1, highest);
  return { trainSteps: steps ?? [tMin], tMin, ...rest };
}

function surrogateSelection(
  config: MethodConfig,
  { T, random, method }: {
    readonly T: number;
    readonly random: Draws;
    readonly method: Method;
  },
): StepSelection {
  const parameters: SurrogateParameters = config;
  const first = T - trainableSteps(T, parameters.window);
  const draw: SurrogateDraw = {
    T,
    K: config.k ?? 0,
    random,
    first,
    bias: parameters.bias ?? 0,
    concentration: parameters.concentration ?? [],
    longestEnd: parameters.longestEnd ?? T,
  };
  const drawn = method.surrogate?.draw(draw) ?? {};
  return straightThroughSelection(drawn, { ...parameters, T, first });
}

/** A surrogate's active steps or its interval [k, j), indices in sampling order, 0 the noisiest. */
export function straightThroughSelection(
  { active = [], k, j }: {
    readonly active?: readonly number[];
    readonly k?: number;
    readonly j?: number;
  },
  { T, first = 0, last = T - 1, rescale = 0, alpha = 1, maxActive = Infinity, ...parameters }:
    & SurrogateParameters
    & {
      readonly T: number;
      /** The steps whose weights the active ones stand for if rescaled. */
      readonly first?: number;
      readonly last?: number;
      /** Most active supports of a leap. */
      readonly maxActive?: number;
    },
): StepSelection {
  const named = (indices: readonly number[]) => indices.map((i) => T - i);
  const whole = { tMin: 0, inputStopGradient: true, redraws: 0 };
  const window = first === 0 && last === T - 1 ? {} : { window: [T - first, T - last] as const };
  const ascending = (steps: readonly number[]) => [...new Set(steps)].toSorted((a, b) => a - b);
  if (k === undefined || j === undefined) {
    const bridge = j === undefined ? {} : { bridge: { step: T - j, alpha } };
    return {
      ...whole,
      trainSteps: ascending(named(active)),
      surrogate: { rescale, ...window, ...bridge },
    };
  }
  const { order = 1, weights = "lagrange", supports: mode = "start", tau } = parameters;
  const leap = (a: number, b: number): Leap => {
    const all = named(supportsOf(a, b, { order, weights }));
    const count = { start: 1, midpoint: 2, all: all.length }[mode];
    return { supports: all, active: all.slice(0, Math.min(count, maxActive)) };
  };
  const [before, after] = [leap(k, j), leap(j, T)];
  const bridge: Bridge = {
    step: T - j,
    alpha,
    leaps: {
      first: before,
      second: after,
      weights,
      supportScale: parameters.supportScale ?? 1,
      anchor: parameters.anchor ?? 1,
      ...(tau !== undefined && tau > 0 && { tau }),
    },
  };
  return {
    ...whole,
    trainSteps: ascending([...before.active, ...after.active]),
    surrogate: { rescale, ...window, bridge },
  };
}
