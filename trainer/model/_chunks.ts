/** `count` rows in as few ranges of at most `limit` as possible, as even as possible: [start, end) each. */
export function chunks(count: number, limit: number): [number, number][] {
  const parts = Math.ceil(count / Math.max(1, limit));
  return Array.from(
    { length: parts },
    (_, i) => [Math.floor(i * count / parts), Math.floor((i + 1) * count / parts)],
  );
}
