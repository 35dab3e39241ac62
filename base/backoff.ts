/** Waits between tries in milliseconds, without an end: the first, then twice the one before, at most the longest. */
export function* backoff(
  { first, longest }: { readonly first: number; readonly longest: number },
): Generator<number, never> {
  for (let wait = Math.min(first, longest);; wait = Math.min(2 * wait, longest)) yield wait;
}
