/** How often each size occurs among the ranges of `chunks`, which has two at most. */
export function chunkSizes(
  count: number,
  limit: number,
): readonly { size: number; times: number }[] {
  const times = new Map<number, number>();
  for (const [start, end] of chunks(count, limit)) {
    times.set(end - start, (times.get(end - start) ?? 0) + 1);
  }
  return Array.from(times, ([size, times]) => ({ size, times }));
}

/** `count` rows in as few ranges of at most `limit` as possible, as even as possible: [start, end) each. */
export function chunks(count: number, limit: number): [number, number][] {
  const parts = Math.ceil(count / Math.max(1, limit));
  return Array.from(
    { length: parts },
    (_, i) => [Math.floor(i * count / parts), Math.floor((i + 1) * count / parts)],
  );
}
