import { castNumber, type DType, type Shape, sizeOf, type Tensor } from "../../autodiff/mod.ts";

/** A stream of uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A tensor of uniform numbers in [low, high). */
export function randomTensor(
  next: () => number,
  { shape, dtype = "float64", low = -1, high = 1 }: {
    readonly shape: Shape;
    readonly dtype?: DType;
    readonly low?: number;
    readonly high?: number;
  },
): Tensor {
  const values = Float64Array.from({ length: sizeOf(shape) }, () => low + (high - low) * next());
  return castNumber(values, { dtype, shape });
}

/** The entries of a tensor as numbers. Throws on the half-precision dtypes, which are held as bits. */
export function numbersOf({ dtype, data }: Tensor): Float64Array {
  if (dtype === "float16" || dtype === "bfloat16") {
    throw new TypeError(`Tensor is ${dtype}, expected a dtype that JavaScript has an array of`);
  }
  return data instanceof BigInt64Array ? Float64Array.from(data, Number) : Float64Array.from(data);
}
