/** `count` numbers from `start` to `stop`, both included, rounded as numpy rounds them. */
export function linspace(start: number, stop: number, count: number): number[] {
  const step = (stop - start) / (count - 1);
  return Array.from(
    { length: count },
    (_, i) => i > 0 && i === count - 1 ? stop : start + i * (count > 1 ? step : 0),
  );
}

/** To the nearest integer, halves to the even one, as numpy does. */
export function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
}
