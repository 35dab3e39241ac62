import type { Parameters } from "../tensors.ts";

/**
 * The exponential moving average of parameters after an update, counted from 1: `before` times the decay plus `now` times the
 * rest, rounded to float32. The decay grows to its value as that of diffusers' `EMAModel` does, min(decay, n / (9 + n)) at
 * update n, and the first update's parameters are the first average.
 */
export function averaged(
  now: Parameters,
  { before, update, decay: most }: {
    readonly before: Parameters | undefined;
    readonly update: number;
    /** 0 to below 1. */
    readonly decay: number;
  },
): Parameters {
  if (before === undefined || update <= 1) return now;
  const decay = Math.min(most, update / (9 + update));
  return Object.fromEntries(
    Object.entries(now).map(([name, { data, ...tensor }]) => {
      const old = before[name]?.data;
      return [name, { ...tensor, data: data.map((v, i) => v + decay * ((old?.[i] ?? v) - v)) }];
    }),
  );
}
