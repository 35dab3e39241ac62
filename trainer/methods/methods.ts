import { dirichlet, type Draws, drawWeighted, wholeParts } from "./_draws.ts";
import type { ActiveSupports, Quadrature } from "./surrogate.ts";

/** How DRTune spreads its trained steps: over all steps (the paper's algorithm 1), or over those that are executed. */
export const STEP_RULES = ["trajectory", "prefix"] as const;

export type StepRule = typeof STEP_RULES[number];

/** What a rule for the trained steps may read. T is the number of sampling steps, K the method's parameter. */
export interface Draw {
  readonly T: number;
  readonly K: number;
  readonly random: Draws;
  /** How many steps run before sampling ends: T without early stop. */
  readonly executed: number;
  readonly rule: StepRule;
}

/** What FlowBP's methods may read, indices in sampling order, 0 the noisiest. */
export interface SurrogateDraw {
  readonly T: number;
  readonly K: number;
  readonly random: Draws;
  /** First index that may be drawn. */
  readonly first: number;
  readonly bias: number;
  readonly concentration: readonly number[];
  readonly longestEnd: number;
}

/** What is drawn: the active steps, or the interval [k, j) that is crossed first. */
export interface Drawn {
  readonly active?: readonly number[];
  readonly k?: number;
  readonly j?: number;
}

/** Parameters of methods with a surrogate. Those that a method does not have are absent. */
export interface SurrogateParameters {
  /** b: active steps are drawn with probability proportional to (index + 1)^b. */
  readonly bias?: number;
  /** g; see `Surrogate`. */
  readonly rescale?: number;
  /** See `Bridge`. */
  readonly alpha?: number;
  readonly tau?: number;
  readonly order?: number;
  readonly weights?: Quadrature;
  readonly supports?: ActiveSupports;
  readonly supportScale?: number;
  readonly anchor?: number;
  /** Dirichlet's, of the lengths of [j, T), [k, j) and [0, k). */
  readonly concentration?: readonly number[];
  /** Most steps of [j, T); what is more goes before k. */
  readonly longestEnd?: number;
  /** Share of the steps, counted from the last, that are trained at all. */
  readonly window?: number;
}

/**
 * A training method as data. Steps are numbered as in the paper: T is the noisiest, 1 the last. `k` and `m` are the
 * defaults of the parameters K and m for T steps; a method without the parameter has none.
 */
export interface Method {
  /** Trained steps; "stop" means the step at which sampling ends, "surrogate" what its parameters draw. */
  readonly trains: "stop" | "surrogate" | ((draw: Draw) => number[]);
  readonly k?: (T: number, rule: StepRule) => number;
  readonly m: (T: number) => number;
  readonly earlyStop: boolean;
  readonly inputStopGradient: boolean;
  /** Times the last step is drawn again with other noise. */
  readonly redraws: number;
  /** Of methods with a surrogate: their parameters' defaults and how its steps are drawn. */
  readonly surrogate?: {
    readonly parameters: SurrogateParameters;
    draw(draw: SurrogateDraw): Drawn;
  };
}

const last = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const indices = (from: number, to: number) => last(to - from).map((i) => from + i - 1);
const portion = (of: number) => (T: number) => Math.max(1, Math.floor(of * T));
const plain = {
  m: portion(0.4),
  earlyStop: false,
  inputStopGradient: false,
  redraws: 0,
} as const;
const straight = { ...plain, trains: "surrogate", inputStopGradient: true } as const;

/** Two distinct steps, each pair as likely as the others. */
function pair({ T, random, first }: SurrogateDraw): { k: number; j: number } {
  const a = random.integer(first, T - 1);
  const other = random.integer(first, T - 2);
  const b = other < a ? other : other + 1;
  return { k: Math.min(a, b), j: Math.max(a, b) };
}

/**
 * The methods, run by one executor: those of the paper (arXiv 2405.00760, table 1), LeapAlign and FlowBP's
 * (arXiv 2606.11075) with its defaults for SD 3.5.
 */
export const METHODS = {
  /**
   * Algorithm 1: K steps, evenly spread from a random start; m = 0.4 T is the paper's best (figure 9). By the rule
   * "prefix", as FlowBP publishes it for flows, they are spread over the steps that run, so that none is in vain.
   */
  drtune: {
    ...plain,
    trains({ T, K, random, executed, rule }) {
      if (rule === "prefix") {
        const count = Math.min(K, executed);
        const stride = Math.floor(executed / count);
        const start = random.integer(0, executed - 1 - (count - 1) * stride);
        return last(count).map((i) => T - (start + (i - 1) * stride)).reverse();
      }
      const stride = Math.floor(T / K);
      const start = random.integer(1, T - (K - 1) * stride);
      return last(K).map((i) => start + (i - 1) * stride);
    },
    k: (T, rule) => rule === "prefix" ? Math.min(3, T) : portion(0.1)(T),
    earlyStop: true,
    inputStopGradient: true,
  },
  /** ReFL-n (arXiv 2304.05977), with n for m. */
  refl: { ...plain, trains: "stop", earlyStop: true },
  /** DRaFT-K (arXiv 2309.17400). */
  "draft-k": { ...plain, trains: ({ K }) => last(K), k: portion(0.2) },
  "draft-lv": { ...plain, trains: () => last(1), redraws: 2 },
  "draft-t": { ...plain, trains: ({ T }) => last(T) },
  /** AlignProp (arXiv 2310.03739): back-propagation truncated at a random step. */
  alignprop: { ...plain, trains: ({ T, random }) => last(random.integer(1, T)) },
  /** Two leaps by Euler's rule, to a random step and from there to the end. */
  leapalign: {
    ...straight,
    surrogate: { parameters: { alpha: 0.3, tau: 0.1, window: 1 }, draw: pair },
  },
  /** The sampler's own steps, a few of which carry gradient, in stead of all if rescaled. */
  "flowbp-sparse": {
    ...straight,
    k: (T) => Math.min(4, T),
    surrogate: {
      parameters: { bias: 1, rescale: 0.5, window: 1 },
      draw: ({ T, K, random, first, bias }) => ({
        active: drawWeighted(indices(first, T), {
          count: K,
          weight: (i) => (i + 1) ** bias,
          random,
        }),
      }),
    },
  },
  /** The same in two parts, that before x_j reaching the end through it. */
  "flowbp-bridge": {
    ...straight,
    k: (T) => Math.min(5, T),
    surrogate: {
      parameters: { bias: 4, rescale: 0, alpha: 0.5, window: 1 },
      draw(draw) {
        const { T, K, random, bias, first } = draw;
        const { j } = pair(draw);
        const [before, after] = [j - first, T - j];
        const share = Math.round(K * before / (T - first));
        const pre = Math.min(Math.max(share, 1, K - after), before, K - 1);
        const of = (from: number, to: number, count: number) =>
          drawWeighted(indices(from, to), {
            count,
            weight: (i) => (i - (from === first ? first : j) + 1) ** bias,
            random,
          });
        const post = Math.min(K - pre, after);
        return { j, active: [...of(first, j, pre), j, ...of(j + 1, T, post - 1)] };
      },
    },
  },
  /** Two leaps by quadrature over supports, the first two of which carry gradient. */
  "flowbp-lagrange": {
    ...straight,
    surrogate: {
      parameters: {
        rescale: 0,
        alpha: 0.1,
        tau: 0.2,
        order: 3,
        weights: "lagrange",
        supports: "midpoint",
        supportScale: 0.25,
        anchor: 1,
        concentration: [2.5, 6, 2],
        longestEnd: 10,
        window: 1,
      },
      draw({ T, random, first, concentration, longestEnd }) {
        const [end = 1, middle = 1] = wholeParts(dirichlet(concentration, random), T - first);
        // With j the step after `end` others, [j, T) has one more.
        const j = Math.max(T - 1 - end, T - longestEnd);
        return { j, k: Math.max(first, j - middle) };
      },
    },
  },
} as const satisfies Record<string, Method>;

export type MethodName = keyof typeof METHODS;

/** Every method's name. */
export const METHOD_NAMES = [
  "drtune",
  "refl",
  "draft-k",
  "draft-lv",
  "draft-t",
  "alignprop",
  "leapalign",
  "flowbp-sparse",
  "flowbp-bridge",
  "flowbp-lagrange",
] as const satisfies readonly MethodName[];
