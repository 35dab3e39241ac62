import { summarise } from "../../base/mod.ts";

/** A reward before and after, and the mean of the paired differences with its 95 % confidence interval. */
export interface PairedSummary {
  readonly before: number;
  readonly after: number;
  readonly difference: number;
  readonly lower: number;
  readonly upper: number;
}

/** Summarises pairs (before, after) of the same prompt and seed. */
export function pairedSummary(pairs: readonly (readonly [number, number])[]): PairedSummary {
  const { mean: difference, low: lower, high: upper } = summarise(
    pairs.map(([before, after]) => after - before),
  );
  return {
    before: summarise(pairs.map(([before]) => before)).mean,
    after: summarise(pairs.map(([, after]) => after)).mean,
    difference,
    lower,
    upper,
  };
}
