/** Random integers, both ends included. */
export interface Integers {
  integer(low: number, high: number): number;
}

/** What a rule for the trained steps may read. T is the number of sampling steps, K the method's parameter. */
export interface Draw {
  readonly T: number;
  readonly K: number;
  readonly random: Integers;
}

/**
 * A training method as data. Steps are numbered as in the paper: T is the noisiest, 1 the last. `k` and `m` are the
 * defaults of the parameters K and m for T steps; a method without the parameter has none.
 */
export interface Method {
  /** Trained steps; "stop" means the step at which sampling ends. */
  readonly trains: "stop" | ((draw: Draw) => number[]);
  readonly k?: (T: number) => number;
  readonly m: (T: number) => number;
  readonly earlyStop: boolean;
  readonly inputStopGradient: boolean;
  /** Times the last step is drawn again with other noise. */
  readonly redraws: number;
}

const last = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const portion = (of: number) => (T: number) => Math.max(1, Math.floor(of * T));
const plain = {
  m: portion(0.4),
  earlyStop: false,
  inputStopGradient: false,
  redraws: 0,
} as const;

/** The methods of the paper (arXiv 2405.00760, table 1), run by one executor. */
export const METHODS = {
  /** Algorithm 1: K steps, evenly spread from a random start; m = 0.4 T is the paper's best (figure 9). */
  drtune: {
    ...plain,
    trains({ T, K, random }) {
      const stride = Math.floor(T / K);
      const start = random.integer(1, T - (K - 1) * stride);
      return last(K).map((i) => start + (i - 1) * stride);
    },
    k: portion(0.1),
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
] as const satisfies readonly MethodName[];
