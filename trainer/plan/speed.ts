import { Builder, float32, gradient, type Shape, sizeOf, type Value } from "../../autodiff/mod.ts";
import {
  compile,
  CPU_TARGET,
  type GraphCost,
  PLAIN_POLICY,
  type Policy,
  PRODUCT_KINDS,
  type ProductKind,
} from "../../compile/mod.ts";
import type { Engine, Place, SessionOptions } from "../../runtime/mod.ts";
import { sessionOptions } from "../model/_session_options.ts";
import { machineLoad } from "./_machine_load.ts";

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
  /** Threads that wanted a processor when it was measured; absent where nobody knows. */
  readonly load?: number;
}

/** What is timed: an output and what is fed. */
interface Trial {
  readonly policy?: Partial<Policy>;
  readonly inputs: readonly Shape[];
  readonly fold?: boolean;
  write(b: Builder, inputs: readonly Value[]): Value;
}

/** A trial that is loaded. */
interface Timed {
  readonly cost: GraphCost;
  /** Seconds that loading took. */
  readonly loading: number;
  /** Seconds of its fastest run. */
  seconds: number;
  run(): Promise<void>;
  free(): Promise<void>;
}

const LEAST_ROUNDS = 3;
const OPERATORS = 300;
/** Sizes as a latent diffusion model's first levels have them: its channels, positions, and heads. */
const [CHANNELS, SIDE, HEADS] = [320, 64, 8];
const IMAGE: Shape = [1, CHANNELS, SIDE, SIDE];
const TOKENS: Shape = [1, SIDE * SIDE / 4, CHANNELS];

const convolution: Trial["write"] = (b, [x = missing()]) =>
  b.conv2d(x, filled(b, [CHANNELS, CHANNELS, 3, 3]), { padding: 1 });
const attention: Trial["write"] = (b, [q = missing(), k = missing(), v = missing()]) =>
  b.attention(q, k, v, { heads: HEADS });

/** What networks are made of. */
const TRIALS = {
  operators: {
    inputs: [[4]],
    write: (b, [x = missing()]) => {
      let y = x;
      for (let i = 0; i < OPERATORS; i++) y = i % 2 === 0 ? b.sin(y) : b.cos(y);
      return y;
    },
  },
  traffic: {
    inputs: [IMAGE],
    write: (b, [x = missing()]) => {
      const scale = filled(b, [CHANNELS]);
      return b.silu(b.groupNorm(x, { groups: 32, scale, bias: scale, epsilon: 1e-5 }));
    },
  },
  matrix: {
    inputs: [[SIDE * SIDE / 2, 2 * CHANNELS], [8 * CHANNELS, 2 * CHANNELS]],
    write: (b, [x = missing(), w = missing()]) => b.gemm(x, w, { transB: true }),
  },
  convolution: { inputs: [IMAGE], write: convolution },
  plainConvolution: { inputs: [IMAGE], fold: false, write: convolution },
  attention: { inputs: [TOKENS, TOKENS, TOKENS], write: attention },
  loop: {
    policy: { attentionMemory: 0 },
    inputs: [TOKENS, TOKENS, TOKENS],
    write: (b, inputs) => {
      const value = attention(b, inputs);
      const [dq = missing()] = gradient(b, [{ value, cotangent: inputs[0] ?? missing() }], [
        ...inputs,
      ]);
      return dq;
    },
  },
} satisfies Record<string, Trial>;

/**
 * Measures an engine's speed with what networks are made of, in the sizes of a latent diffusion model: products, long
 * attention and its gradient, convolutions, normalization, and many small operators. All take turns for about `seconds`,
 * default 1, and the fastest run of each counts: where others use the machine, some find it free.
 */
export async function measureSpeed(
  engine: Engine,
  { session = {}, seconds = 1 }: {
    readonly session?: SessionOptions;
    readonly seconds?: number;
  } = {},
): Promise<Speed> {
  const wanted = await machineLoad();
  const time = await timeAll(engine, { session, seconds });
  const small = time("operators");
  const operator = small.seconds / small.cost.operators;
  const between = time("traffic");
  const traffic = between.cost.trafficBytes /
    Math.max(between.seconds / 2, between.seconds - operator * between.cost.operators);
  /** Of the kind of product that a trial is about. */
  const rate = (kind: ProductKind, trial: keyof typeof TRIALS = kind) => {
    const { cost, seconds } = time(trial);
    const rest = cost.trafficBytes / traffic + cost.operators * operator;
    // What surrounds the product is little; if it seems to be much, it was measured at a bad moment.
    return cost.flops[kind] / Math.max(seconds / 2, seconds - rest);
  };
  return {
    flops: {
      matrix: rate("matrix"),
      convolution: rate("convolution"),
      attention: rate("attention"),
      loop: rate("loop"),
    },
    plainConvolution: rate("convolution", "plainConvolution"),
    traffic,
    operator,
    loading: small.loading / small.cost.operators,
    ...(wanted !== undefined && { load: wanted }),
  };
}

/** Runs every trial several times; what was found of each, by its name. */
async function timeAll(
  engine: Engine,
  { session, seconds }: { readonly session: SessionOptions; readonly seconds: number },
): Promise<(name: keyof typeof TRIALS) => Timed> {
  const all = new Map<string, Timed>();
  try {
    for (const [name, trial] of Object.entries<Trial>(TRIALS)) {
      all.set(name, await load(engine, { name, trial, session }));
    }
    // The first runs find no memory taken yet.
    for (const timed of all.values()) await timed.run();
    const end = performance.now() + 1000 * seconds;
    for (let round = 0; round < LEAST_ROUNDS || performance.now() < end; round++) {
      for (const timed of all.values()) {
        const begun = performance.now();
        await timed.run();
        timed.seconds = Math.min(timed.seconds, (performance.now() - begun) / 1000);
      }
    }
  } finally {
    for (const timed of all.values()) await timed.free();
  }
  return (name) => all.get(name) ?? missing();
}

async function load(
  engine: Engine,
  { name, trial, session }: {
    readonly name: string;
    readonly trial: Trial;
    readonly session: SessionOptions;
  },
): Promise<Timed> {
  const { inputs, fold = true } = trial;
  const b = new Builder({ differentiable: trial.policy !== undefined });
  const values = inputs.map((shape, i) => b.input(`x${i}`, { dtype: "float32", shape }));
  // One number is fetched, so that no time goes into handing results over.
  const y = b.sum(trial.write(b, values));
  const begun = performance.now();
  // What is measured is the runtime's own convolution, which Winograd's algorithm is compared with.
  const policy = { ...PLAIN_POLICY, ...trial.policy };
  const compiled = compile(b, { y }, { ...CPU_TARGET, fold, policy });
  const model = { bytes: compiled.bytes, name: "speed" };
  const loaded = await engine.load(model, sessionOptions(compiled, session));
  const loading = (performance.now() - begun) / 1000;
  const feeds: Record<string, Place> = {};
  for (const v of values) {
    const place = engine.place(`speed of ${name}, ${v.name}`);
    feeds[v.name] = place;
    await engine.keep(place, float32(new Float32Array(sizeOf(v.shape)).fill(0.01), v.shape));
  }
  return {
    cost: compiled.cost,
    loading,
    seconds: Infinity,
    run: async () => void await loaded.run(feeds),
    free: async () => {
      await engine.forget(...Object.values(feeds));
      await loaded.dispose();
    },
  };
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
