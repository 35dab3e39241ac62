/** Philox4x32 multipliers and key increments (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const;

/** Four 32-bit words. */
export type Words = readonly [number, number, number, number];

/** One block of Philox4x32-10: the counter's image under a keyed bijection. All words are unsigned. */
export function philox(counter: Words, key: readonly [number, number]): Words {
  let [a, b, c, d] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = product(a, MULTIPLIERS[0]);
    const [high1, low1] = product(c, MULTIPLIERS[1]);
    [a, b, c, d] = [(high1 ^ b ^ k0) >>> 0, low1, (high0 ^ d ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [a, b, c, d];
}

/** The two halves of a 64-bit product. */
function product(x: number, y: number): readonly [number, number] {
  const [xh, xl, yh, yl] = [x >>> 16, x & 0xffff, y >>> 16, y & 0xffff];
  const middle = xh * yl + (xl * yl >>> 16);
  const high = xh * yh + Math.floor(middle / 0x10000) + ((middle % 0x10000 + xl * yh) / 0x10000);
  return [Math.floor(high) >>> 0, Math.imul(x, y) >>> 0];
}

/**
 * Reproducible random numbers: equal `seed` and `stream` give equal sequences, and different streams of one seed do
 * not overlap, so that a step or a tensor can have numbers of its own whatever was drawn before it.
 */
export class Random {
  readonly #key: readonly [number, number];
  readonly #stream: readonly [number, number];
  #block = 0;
  #words: number[] = [];
  #spare: number | undefined;

  /** Both are whole numbers from 0 to 2^53 - 1. Throws `RangeError` otherwise. */
  constructor(seed: number, stream = 0) {
    this.#key = halves("Seed", seed);
    this.#stream = halves("Stream", stream);
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    const word = this.#words.pop();
    if (word !== undefined) return word;
    const [low, high] = halves("Block", this.#block++);
    const [first, ...rest] = philox([low, high, ...this.#stream], this.#key);
    this.#words = rest.reverse();
    return first;
  }

  /** A number between 0 and 1, never either of them: one of 2^32. */
  uniform(): number {
    return (this.uint32() + 0.5) / 2 ** 32;
  }

  /** A whole number from `low` to `high`, both included, each as likely as the others. */
  integer(low: number, high: number): number {
    const span = high - low + 1;
    if (!Number.isSafeInteger(low) || !Number.isSafeInteger(span) || span < 1 || span > 2 ** 32) {
      throw new RangeError(`No whole number can be drawn from ${low} to ${high}`);
    }
    const even = 2 ** 32 - 2 ** 32 % span;
    for (;;) {
      const word = this.uint32();
      if (word < even) return low + word % span;
    }
  }

  /** A standard normal number, by Box and Muller's transform. */
  normal(): number {
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare !== undefined) return spare;
    const radius = Math.sqrt(-2 * Math.log(this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** `n` standard normal numbers rounded to float32. */
  normals(n: number): Float32Array<ArrayBuffer> {
    return new Float32Array(n).map(() => this.normal());
  }
}

function halves(what: string, value: number): readonly [number, number] {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${what} is ${value}, expected a whole number from 0 to 2^53 - 1`);
  }
  return [value >>> 0, Math.floor(value / 2 ** 32)];
}
