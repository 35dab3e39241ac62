import { permutation, type Purpose, randomStream } from "./random.ts";

/**
 * Which entries of a list are drawn at places `first` to `first` + `count` - 1 of an endless sequence: each pass over the list is
 * a new permutation, seeded by `seed` and `purpose`.
 */
export function drawnInPasses(
  length: number,
  { first, count, seed, purpose }: {
    readonly first: number;
    readonly count: number;
    readonly seed: number;
    readonly purpose: Purpose;
  },
): readonly number[] {
  const orders = new Map<number, Uint32Array>();
  return Array.from({ length: count }, (_, i) => {
    const pass = Math.floor((first + i) / length);
    const order = orders.get(pass) ??
      permutation(length, randomStream(seed, purpose, { iteration: pass }));
    orders.set(pass, order);
    return order[(first + i) % length] ?? 0;
  });
}
