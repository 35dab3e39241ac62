import { studentQuantile } from "../../base/mod.ts";

/** How fast something grows: of a line fitted to a value of each block of time, with its 95 % interval. */
export interface Slope {
  /** Per hour, as `low` and `high`. */
  readonly slope: number;
  readonly low: number;
  readonly high: number;
  /** Median of the blocks' values. */
  readonly usual: number;
}

/**
 * Blocks of equal time, of which each gives one point: neighbouring readings of a process depend on one another, so that
 * an interval made of all of them would be too narrow.
 */
const BLOCKS = 18;

/**
 * Fits a line by least squares to a value of each block of readings. Undefined where fewer than three blocks hold one.
 *
 * @param readings [hours, value] in order of time
 * @param of what stands for a block's readings. Default: their median
 */
export function slopeOf(
  readings: readonly (readonly [hours: number, value: number])[],
  of: (values: readonly number[]) => number = median,
): Slope | undefined {
  const [first = 0, last = 0] = [readings[0]?.[0], readings.at(-1)?.[0]];
  const blocks = Array.from({ length: BLOCKS }, (): [number, number][] => []);
  for (const [hours, value] of readings) {
    const block = Math.floor(BLOCKS * (hours - first) / (last - first));
    blocks[Math.min(block, BLOCKS - 1)]?.push([hours, value]);
  }
  const points = blocks.filter(({ length }) => length > 0).map((block) => ({
    x: block.reduce((sum, [hours]) => sum + hours, 0) / block.length,
    y: of(block.map(([, value]) => value)),
  }));
  const n = points.length;
  if (n < 3) return undefined;
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / n;
  const [mx, my] = [mean(points.map(({ x }) => x)), mean(points.map(({ y }) => y))];
  const sxx = points.reduce((sum, { x }) => sum + (x - mx) ** 2, 0);
  const slope = points.reduce((sum, { x, y }) => sum + (x - mx) * (y - my), 0) / sxx;
  const rest = points.reduce((sum, { x, y }) => sum + (y - my - slope * (x - mx)) ** 2, 0);
  const half = studentQuantile(n - 2) * Math.sqrt(rest / (n - 2) / sxx);
  return { slope, low: slope - half, high: slope + half, usual: median(points.map(({ y }) => y)) };
}

/** The middle one of values, the higher of two; NaN of none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
