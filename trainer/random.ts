import { Random } from "../models/random/mod.ts";

/**
 * What random numbers are drawn for, with the upper half of the generator's key. Draws for one purpose never shift
 * those for another. 0 is taken by the initial LoRA weights (`initialLora`).
 */
const PURPOSES = {
  prompts: 1,
  selection: 2,
  latents: 3,
  noise: 4,
  redraw: 5,
  shift: 6,
  perturb: 7,
  pictures: 8,
  pretrain: 9,
} as const;

export type Purpose = keyof typeof PURPOSES;

/** Which stream of a purpose; 0 by default. */
export interface StreamIndex {
  /** Up to 2^21 - 1. */
  readonly iteration?: number;
  /** Position in the iteration's images, up to 2^16 - 1. */
  readonly image?: number;
  /** Up to 2^16 - 1. */
  readonly step?: number;
}

const LIMITS = { seed: 2 ** 32, iteration: 2 ** 21, image: 2 ** 16, step: 2 ** 16 } as const;

/**
 * Random numbers that are a pure function of seed, purpose and index. Nothing is remembered between streams: results
 * depend neither on the order of the work nor on who does it, and a resumed run draws what an undisturbed one would.
 * Throws `RangeError` for a number that is not whole or beyond its limit; seeds are below 2^32.
 */
export function randomStream(seed: number, purpose: Purpose, index: StreamIndex = {}): Random {
  const all = { seed, iteration: 0, image: 0, step: 0, ...index };
  for (const name of ["seed", "iteration", "image", "step"] as const) {
    if (!Number.isInteger(all[name]) || all[name] < 0 || all[name] >= LIMITS[name]) {
      throw new RangeError(
        `Random ${name} is ${all[name]}, expected a whole number below ${LIMITS[name]}`,
      );
    }
  }
  const { iteration, image, step } = all;
  return new Random(
    PURPOSES[purpose] * 2 ** 32 + seed,
    (iteration * LIMITS.image + image) * LIMITS.step + step,
  );
}

/** A permutation of 0..length-1, by Fisher and Yates. */
export function permutation(length: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return order;
}
