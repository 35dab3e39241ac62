/** How the rewards of an image become one number. */
export const COMBINATIONS = ["sum", "mean", "min"] as const;

export type Combination = typeof COMBINATIONS[number];

/** What one reward says of a batch, and how it counts. */
export interface Counted {
  /** In the reward's own units. */
  readonly scores: ArrayLike<number>;
  readonly direction: "maximise" | "minimise";
  readonly weight: number;
  /** A score beyond this, and better, counts as this. */
  readonly hinge?: number;
  /** Whether scores are standardised over the batch. */
  readonly zScore?: boolean;
}

/** The worth of images and its derivatives. */
export interface Combined {
  /** Of each image, greater is better. */
  readonly perImage: readonly number[];
  /** By reward and image: d worth / d score. */
  readonly slopes: readonly (readonly number[])[];
}

/**
 * How doubtful the worth of each image is, -1 to 1: the share of the other images that it beats by its worth, less the
 * share that it beats by the rewards of weight 0, their mean (the uncertainty of GARDO, arXiv 2512.24138, by ranks). Equal
 * images beat each other by half. `undefined` without such rewards.
 */
export function doubts(
  rewards: readonly Counted[],
  perImage: readonly number[],
): readonly number[] | undefined {
  const judges = rewards.filter(({ weight }) => weight === 0)
    .map((judge) => wins(valued(judge).values));
  if (judges.length === 0) return undefined;
  return wins(perImage).map((own, i) =>
    own - judges.reduce((sum, judge) => sum + (judge[i] ?? NaN), 0) / judges.length
  );
}

/** Of each value, the share of the others that it is above. */
function wins(values: readonly number[]): readonly number[] {
  const others = Math.max(1, values.length - 1);
  return values.map((v, i) =>
    values.reduce((sum, w, j) => j === i ? sum : sum + (v > w ? 1 : v === w ? 0.5 : 0), 0) / others
  );
}

/** Deviations below this are none: all images have the same score, and none is better than another. */
const LEAST_DEVIATION = 1e-8;

/**
 * The worth of each image of a batch. With v = s, or -s of a reward that is to be minimised, a reward counts as w v: its
 * hinge h makes v the lesser of v and h's own (the loss max(0, h - s) of ReFL, arXiv 2304.05977, but for a constant), its
 * z-score makes v (v - mean) / deviation, where mean and biased deviation are those of the batch and constants to the
 * derivative. "sum" adds w v over the rewards, "mean" divides that by the sum of |w|, and "min" takes the least (the worst-case
 * ensemble of arXiv 2310.02743). Rewards of weight 0 count in none of them.
 */
export function combined(rewards: readonly Counted[], combination: Combination): Combined {
  const counted = rewards.map((reward) => ({ weight: reward.weight, ...valued(reward) }));
  const total = counted.reduce((sum, { weight }) => sum + Math.abs(weight), 0);
  const trained = counted.flatMap(({ weight }, j) => weight === 0 ? [] : [j]);
  const slopes = counted.map(({ values }) => new Array<number>(values.length).fill(0));
  const images = rewards[0]?.scores.length ?? 0;
  const perImage = Array.from({ length: images }, (_, i) => {
    const worth = (j: number) => (counted[j]?.weight ?? 0) * (counted[j]?.values[i] ?? NaN);
    const deciding = combination === "min"
      ? trained.toSorted((a, b) => worth(a) - worth(b)).slice(0, 1)
      : trained;
    const factor = combination === "mean" ? 1 / total : 1;
    for (const j of deciding) {
      const { weight = 0, slopes: own } = counted[j] ?? {};
      const row = slopes[j];
      if (row !== undefined) row[i] = factor * weight * (own?.[i] ?? NaN);
    }
    return deciding.reduce((sum, j) => sum + factor * worth(j), 0);
  });
  return { perImage, slopes };
}

/** A reward's values, greater is better, and their derivatives by its scores. */
function valued({ scores, direction, hinge, zScore = false }: Counted) {
  const sign = direction === "minimise" ? -1 : 1;
  const most = hinge === undefined ? Infinity : sign * hinge;
  const values = Array.from(scores, (s) => Math.min(sign * s, most));
  const slopes = Array.from(scores, (s) => sign * s < most ? sign : 0);
  if (!zScore) return { values, slopes };
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / values.length);
  const factor = deviation < LEAST_DEVIATION ? 0 : 1 / deviation;
  return {
    values: values.map((v) => factor * (v - mean)),
    slopes: slopes.map((slope) => factor * slope),
  };
}
