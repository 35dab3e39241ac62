/** Random numbers by which steps are selected. */
export interface Draws {
  /** Both ends included. */
  integer(low: number, high: number): number;
  /** Between 0 and 1, neither included. */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
}

/** `count` of `from`, each at most once, drawn one after the other with probability proportional to its weight. */
export function drawWeighted(
  from: readonly number[],
  { count, weight, random }: {
    readonly count: number;
    weight(value: number): number;
    readonly random: Draws;
  },
): number[] {
  const left = [...from];
  const drawn: number[] = [];
  while (drawn.length < count && left.length > 0) {
    let rest = random.uniform() * left.reduce((sum, value) => sum + weight(value), 0);
    const at = left.findIndex((value) => (rest -= weight(value)) <= 0);
    drawn.push(...left.splice(at < 0 ? left.length - 1 : at, 1));
  }
  return drawn;
}

/** Parts of 1 that follow Dirichlet's distribution. Below about 0.02 a concentration draws parts that are all 0 to a float. */
export function dirichlet(concentration: readonly number[], random: Draws): number[] {
  const parts = concentration.map((shape) => gamma(shape, random));
  const sum = parts.reduce((a, b) => a + b);
  return parts.map((part) => part / sum);
}

/** Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). */
function gamma(shape: number, random: Draws): number {
  if (shape < 1) return gamma(shape + 1, random) * random.uniform() ** (1 / shape);
  const d = shape - 1 / 3;
  for (;;) {
    const x = random.normal();
    const v = (1 + x / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(random.uniform()) < x * x / 2 + d - d * v + d * Math.log(v)) return d * v;
  }
}

/**
 * Whole numbers of 1 or more that add up to `total` in about these proportions; the remainder goes to the largest.
 * Throws `RangeError` where there are none.
 */
export function wholeParts(shares: readonly number[], total: number): number[] {
  if (!shares.every(Number.isFinite) || !(total >= shares.length)) {
    throw new RangeError(`There are no ${shares.length} parts of ${total} as [${shares}]`);
  }
  const parts = shares.map((share) => Math.max(1, Math.round(share * total)));
  for (;;) {
    const rest = total - parts.reduce((a, b) => a + b);
    if (rest === 0) return parts;
    const largest = parts.indexOf(Math.max(...parts));
    // What the largest cannot give up comes from the next.
    parts[largest] = Math.max(1, (parts[largest] ?? 1) + rest);
  }
}
