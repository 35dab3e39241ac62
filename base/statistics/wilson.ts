/** A share and its 95 % confidence interval. */
export interface Share {
  /** NaN of nothing. */
  readonly share: number;
  readonly low: number;
  readonly high: number;
}

/** 97.5 % quantile of the normal distribution. */
const Z = 1.959964;

/**
 * Wilson's score interval of a share of `total` independent cases; it holds its level for few cases and near 0 and 1.
 *
 * @param wins of them, also not whole where a case is a mean of several
 */
export function wilson(wins: number, total: number): Share {
  if (total === 0) return { share: NaN, low: 0, high: 1 };
  const share = wins / total;
  const z2 = Z * Z;
  const centre = (share + z2 / (2 * total)) / (1 + z2 / total);
  const half = Z / (1 + z2 / total) *
    Math.sqrt(share * (1 - share) / total + z2 / (4 * total * total));
  return { share, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}
