import {
  Builder,
  float32,
  gradient,
  type GraphCost,
  graphCost,
  PRODUCT_KINDS,
  type ProductKind,
  serialize,
  type Shape,
  sizeOf,
  type Value,
} from "../../autodiff/mod.ts";
import type { Engine, SessionOptions } from "../../runtime/mod.ts";
import { sessionOptions } from "../model/_session_options.ts";

/** How fast a machine computes, as far as estimates go. */
export interface Speed {
  /** Floating-point operations per second. */
  readonly flops: Readonly<Record<ProductKind, number>>;
  /** The same of convolutions in graphs that fold nothing, whose kernels stay as their files have them. */
  readonly plainConvolution: number;
  /** Bytes per second that operators between products read and write. */
  readonly traffic: number;
  /** Seconds that an operator takes whatever it does. */
  readonly operator: number;
  /** Seconds that loading a graph takes for each of its operators. */
  readonly loading: number;
}

/** What is timed: an output and what is fed. */
interface Trial {
  readonly options?: ConstructorParameters<typeof Builder>[0];
  readonly inputs: readonly Shape[];
  readonly fold?: boolean;
  write(b: Builder, inputs: readonly Value[]): Value;
}

interface Timed {
  readonly cost: GraphCost;
  readonly seconds: number;
  readonly loading: number;
}

const REPEATS = 3;
const OPERATORS = 300;
/** Sizes as a latent diffusion model's first levels have them: its channels, positions, and heads. */
const [CHANNELS, SIDE, HEADS] = [320, 64, 8];

/**
 * Measures an engine's speed with what networks are made of, in the sizes of a latent diffusion model: products, long
 * attention and its gradient, convolutions, normalization, and many small operators. About two seconds.
 */
export async function measureSpeed(engine: Engine, session: SessionOptions = {}): Promise<Speed> {
  const time = (trial: Trial) => timed(engine, { trial, session });
  const small = await time({
    inputs: [[4]],
    write: (b, [x = missing()]) => {
      let y = x;
      for (let i = 0; i < OPERATORS; i++) y = i % 2 === 0 ? b.sin(y) : b.cos(y);
      return y;
    },
  });
  const operator = small.seconds / small.cost.operators;
  const image: Shape = [1, CHANNELS, SIDE, SIDE];
  const between = await time({
    inputs: [image],
    write: (b, [x = missing()]) => {
      const scale = filled(b, [CHANNELS]);
      return b.silu(b.groupNorm(x, { groups: 32, scale, bias: scale, epsilon: 1e-5 }));
    },
  });
  const traffic = between.cost.trafficBytes /
    Math.max(between.seconds / 2, between.seconds - operator * between.cost.operators);
  /** Of the kind of product that a trial is about. */
  const rate = async (kind: ProductKind, trial: Trial) => {
    const { cost, seconds } = await time(trial);
    const rest = cost.trafficBytes / traffic + cost.operators * operator;
    // What surrounds the product is little; if it seems to be much, it was measured at a bad moment.
    return cost.flops[kind] / Math.max(seconds / 2, seconds - rest);
  };
  const convolution = (fold: boolean) =>
    rate("convolution", {
      inputs: [image],
      fold,
      write: (b, [x = missing()]) =>
        b.conv2d(x, filled(b, [CHANNELS, CHANNELS, 3, 3]), { padding: 1 }),
    });
  const tokens: Shape = [1, SIDE * SIDE / 4, CHANNELS];
  const attention = (b: Builder, [q = missing(), k = missing(), v = missing()]: readonly Value[]) =>
    b.attention(q, k, v, { heads: HEADS });
  return {
    flops: {
      matrix: await rate("matrix", {
        inputs: [[SIDE * SIDE / 2, 2 * CHANNELS], [8 * CHANNELS, 2 * CHANNELS]],
        write: (b, [x = missing(), w = missing()]) => b.gemm(x, w, { transB: true }),
      }),
      convolution: await convolution(true),
      attention: await rate("attention", { inputs: [tokens, tokens, tokens], write: attention }),
      loop: await rate("loop", {
        options: { differentiable: true, attentionMemory: 0 },
        inputs: [tokens, tokens, tokens],
        write: (b, inputs) => {
          const value = attention(b, inputs);
          const [dq = missing()] = gradient(b, [{ value, cotangent: inputs[0] ?? missing() }], [
            ...inputs,
          ]);
          return dq;
        },
      }),
    },
    plainConvolution: await convolution(false),
    traffic,
    operator,
    loading: small.loading / small.cost.operators,
  };
}

async function timed(
  engine: Engine,
  { trial, session }: { readonly trial: Trial; readonly session: SessionOptions },
): Promise<Timed> {
  const { options = {}, inputs, fold = true } = trial;
  const b = new Builder(options);
  const values = inputs.map((shape, i) => b.input(`x${i}`, { dtype: "float32", shape }));
  // One number is fetched, so that no time goes into handing results over.
  const y = b.sum(trial.write(b, values));
  const begun = performance.now();
  const bytes = serialize(b, { y });
  const loaded = await engine.load({ bytes, name: "speed" }, sessionOptions({ fold }, session));
  const loading = (performance.now() - begun) / 1000;
  try {
    const feeds: Record<string, { kept: string }> = {};
    for (const { name, shape } of values) {
      const kept = `speed.${name}`;
      await engine.keep(kept, float32(new Float32Array(sizeOf(shape)).fill(0.01), shape));
      feeds[name] = { kept };
    }
    let seconds = Infinity;
    // The first run finds no memory taken yet.
    for (let i = 0; i <= REPEATS; i++) {
      const begun = performance.now();
      await loaded.run(feeds);
      if (i > 0) seconds = Math.min(seconds, (performance.now() - begun) / 1000);
    }
    return { cost: graphCost(b, [y], { fold }), seconds, loading };
  } finally {
    await engine.forget(...values.map(({ name }) => `speed.${name}`));
    await loaded.dispose();
  }
}

function filled(b: Builder, shape: Shape): Value {
  return b.constant(float32(new Float32Array(sizeOf(shape)).fill(0.01), shape));
}

function missing(): never {
  throw new RangeError("A trial has as many inputs as it names");
}

/** Seconds that running a graph of this cost takes, which folds what depends on weights alone or does not. */
export function secondsOf(
  { flops, trafficBytes, operators }: GraphCost,
  { speed, fold }: { readonly speed: Speed; readonly fold: boolean },
): number {
  const rates = fold ? speed.flops : { ...speed.flops, convolution: speed.plainConvolution };
  const products = PRODUCT_KINDS.reduce((sum, kind) => sum + flops[kind] / rates[kind], 0);
  return products + trafficBytes / speed.traffic + operators * speed.operator;
}
