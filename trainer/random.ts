/** What random numbers are drawn for. Draws for one purpose never shift those for another. */
export const PURPOSES = {
  lora: 1,
  prompts: 2,
  plan: 3,
  latents: 4,
  noise: 5,
  redraw: 6,
} as const;

export type Purpose = keyof typeof PURPOSES;

/** Which stream of a purpose. Integers of 0..2^32-1, 0 by default. */
export interface StreamIndex {
  readonly iteration?: number;
  readonly image?: number;
  readonly step?: number;
}

/**
 * Random numbers that are a pure function of (seed, purpose, iteration, image, step) and the position in the stream.
 * Nothing is remembered between streams: results depend neither on the order of the work nor on who does it, and a
 * resumed run draws what an undisturbed one would.
 *
 * Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
 */
export class RandomStream {
  readonly #key: readonly [number, number];
  readonly #counter: Uint32Array;
  #block = new Uint32Array(4);
  #used = 4;

  /** `seed` is an integer of 0..2^32-1. */
  constructor(seed: number, purpose: Purpose, index: StreamIndex = {}) {
    const { iteration = 0, image = 0, step = 0 } = index;
    for (const [name, value] of Object.entries({ seed, iteration, image, step })) {
      if (value >>> 0 !== value) {
        throw new RangeError(`Random ${name} is ${value}, expected an integer of 0 to 4294967295`);
      }
    }
    this.#key = [seed, PURPOSES[purpose]];
    this.#counter = Uint32Array.of(0, step, image, iteration);
  }

  /** The next 32 bits. */
  uint32(): number {
    if (this.#used === 4) {
      this.#block = philox(this.#counter, this.#key);
      this.#counter[0] = (this.#counter[0] ?? 0) + 1;
      this.#used = 0;
    }
    return this.#block[this.#used++] ?? 0;
  }

  /** Uniform in the open interval (0, 1). */
  uniform(): number {
    return (this.uint32() + 0.5) / 2 ** 32;
  }

  /** A whole number of `low`..`high`, both included, without bias. */
  integer(low: number, high: number): number {
    const count = high - low + 1;
    if (!(count >= 1 && count <= 2 ** 32)) {
      throw new RangeError(`Random range ${low}..${high} is empty or too wide`);
    }
    const limit = 2 ** 32 - (2 ** 32 % count);
    let bits = this.uint32();
    while (bits >= limit) bits = this.uint32();
    return low + bits % count;
  }

  /** Standard normals by Box and Muller. An odd `length` discards one. */
  normals(length: number): Float64Array {
    const out = new Float64Array(length);
    for (let i = 0; i < length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < length) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  /** A permutation of 0..length-1, by Fisher and Yates. */
  permutation(length: number): Uint32Array {
    const order = Uint32Array.from({ length }, (_, i) => i);
    for (let i = length - 1; i > 0; i--) {
      const j = this.integer(0, i);
      [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
    }
    return order;
  }
}

/** Ten rounds of Philox4x32. */
export function philox(
  counter: ArrayLike<number>,
  key: readonly [number, number],
): Uint32Array<ArrayBuffer> {
  let [c0, c1, c2, c3] = [counter[0] ?? 0, counter[1] ?? 0, counter[2] ?? 0, counter[3] ?? 0];
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, high2] = [multiplyHigh(0xd2511f53, c0), multiplyHigh(0xcd9e8d57, c2)];
    const [low0, low2] = [Math.imul(0xd2511f53, c0), Math.imul(0xcd9e8d57, c2)];
    [c0, c1, c2, c3] = [high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0];
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/** Upper 32 bits of the product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return a1 * b1 + Math.floor(middle / 0x10000) + (other >>> 16);
}
