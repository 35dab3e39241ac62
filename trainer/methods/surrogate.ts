/** How the integral of the velocity over an interval is weighed. */
export const QUADRATURES = ["lagrange", "uniform", "adams-bashforth"] as const;

export type Quadrature = typeof QUADRATURES[number];

/** Which supports of an interval carry gradient: the first, the first two, or all of them. */
export const ACTIVE_SUPPORTS = ["start", "midpoint", "all"] as const;

export type ActiveSupports = typeof ACTIVE_SUPPORTS[number];

/** An interval of steps crossed at once. Steps are numbered as in the paper. */
export interface Leap {
  /** The steps whose velocities are weighed, that at which the leap starts first. */
  readonly supports: readonly number[];
  /** The supports that carry gradient. */
  readonly active: readonly number[];
}

/** A state x_j halfway that gradients of the first part pass through. */
export interface Bridge {
  /** The step at x_j. */
  readonly step: number;
  /**
   * Share of x_j's gradient that goes through the velocity there: v_j is taken at alpha x_j + (1 - alpha) sg(x_j). What
   * does not pass through it is whole.
   */
  readonly alpha: number;
  /** Both parts as leaps; absent: as the sampler's own steps. */
  readonly leaps?: {
    readonly first: Leap;
    readonly second: Leap;
    readonly weights: Quadrature;
    /** Factor of the gradient at active supports other than the first. */
    readonly supportScale: number;
    /** lambda: the first leap is Euler's plus lambda times what the quadrature adds. */
    readonly anchor: number;
    /** Least distance in the similarity that an image's loss is divided by; absent: it is not. */
    readonly tau?: number;
  };
}

/**
 * Straight-through back-propagation: the reward sees the latent that was sampled, and its gradient goes into a
 * prediction of it, of which only chosen velocities carry gradient (FlowBP, arXiv 2606.11075).
 */
export interface Surrogate {
  /**
   * g: the active weights of an interval are multiplied by 1 + g (sum of all / sum of the active ones - 1), absolute
   * values summed.
   */
  readonly rescale: number;
  /** The noisiest and the last of the steps that are summed, where not all are. */
  readonly window?: readonly [noisiest: number, last: number];
  /** Absent: everything is one part. */
  readonly bridge?: Bridge;
}

/**
 * About evenly spaced steps of the interval [a, b) in sampling order, a first; Adams and Bashforth's are those that
 * end at a.
 */
export function supportsOf(
  a: number,
  b: number,
  { order, weights }: { readonly order: number; readonly weights: Quadrature },
): number[] {
  if (weights === "adams-bashforth") {
    return Array.from({ length: Math.min(order, a + 1) }, (_, i) => a - i);
  }
  const n = b - a;
  if (n <= order) return Array.from({ length: n }, (_, i) => a + i);
  const places = Array.from({ length: order }, (_, i) => {
    const place = order === 1 ? 0 : i * (n - 1) / (order - 1);
    const nearest = Math.round(place);
    // Halves to the even neighbour.
    return nearest - place === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
  });
  return [...new Set(places)].map((place) => a + place);
}
