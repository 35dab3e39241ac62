import { Builder, float32, type GraphCost, serialize, sizeOf } from "../../autodiff/mod.ts";
import type { Engine, SessionOptions } from "../../runtime/mod.ts";

/** How fast a machine computes, as far as estimates go. */
export interface Speed {
  /** Floating-point operations per second of a matrix product, and of a convolution. */
  readonly product: number;
  readonly convolution: number;
  /** Bytes per second that an element-wise operator reads and writes. */
  readonly traffic: number;
  /** Seconds that an operator takes whatever it does. */
  readonly operator: number;
}

const REPEATS = 3;

/** Measures an engine's speed with a product, a convolution, and sums of long and of short vectors. About two seconds. */
export async function measureSpeed(engine: Engine, session: SessionOptions = {}): Promise<Speed> {
  const seconds = async (
    shape: readonly number[],
    write: (b: Builder, x: ReturnType<Builder["input"]>) => ReturnType<Builder["input"]>,
  ) => {
    const b = new Builder();
    const x = b.input("x", { dtype: "float32", shape });
    const bytes = serialize(b, { y: b.sum(write(b, x)) });
    const loaded = await engine.load({ bytes, name: "speed" }, session);
    const feed = { x: float32(new Float32Array(sizeOf(shape)).fill(0.01), shape) };
    try {
      let least = Infinity;
      // The first run finds no memory taken yet.
      for (let i = 0; i <= REPEATS; i++) {
        const begun = performance.now();
        await loaded.run(feed);
        if (i > 0) least = Math.min(least, (performance.now() - begun) / 1000);
      }
      return least;
    } finally {
      await loaded.dispose();
    }
  };
  const [n, channels, side] = [768, 64, 96];
  const product = await seconds([n, n], (b, x) => b.matMul(b.matMul(b.matMul(x, x), x), x));
  const convolution = await seconds([1, channels, side, side], (b, x) => {
    const taps = b.expand(
      b.slice(b.reshape(x, [channels * side * side]), {
        axis: 0,
        start: 0,
        end: 1,
      }),
      [channels * channels * 9],
    );
    const w = b.reshape(taps, [channels, channels, 3, 3]);
    return b.conv2d(b.conv2d(b.conv2d(x, w, { padding: 1 }), w, { padding: 1 }), w, { padding: 1 });
  });
  const long = 2 ** 22;
  const sums = await seconds([long], (b, x) => b.add(b.sin(b.mul(b.add(x, 1), 2)), x));
  const short = 200;
  const operators = await seconds([4], (b, x) => {
    let y = x;
    for (let i = 0; i < short; i++) y = i % 2 === 0 ? b.sin(y) : b.sqrt(b.abs(y));
    return y;
  });
  return {
    product: 3 * 2 * n ** 3 / product,
    convolution: 3 * 2 * 9 * channels ** 2 * side ** 2 / convolution,
    traffic: 4 * long * (2 + 2 + 2 + 3 + 1) / sums,
    operator: operators / (1.5 * short),
  };
}

/** Seconds that a graph of this cost takes. */
export function secondsOf(
  { productFlops, trafficBytes, operators }: GraphCost,
  speed: Speed,
): number {
  // Networks spend about as many operations in products as in convolutions.
  const flops = productFlops * (1 / speed.product + 1 / speed.convolution) / 2;
  return flops + trafficBytes / speed.traffic + operators * speed.operator;
}
