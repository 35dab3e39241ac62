import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { Builder, float32, gradient, type Value } from "../autodiff/mod.ts";
import type { Engine, ModelSource, Place, Session, SessionOptions } from "../runtime/mod.ts";
import { CPU_TARGET } from "../compile/mod.ts";
import { RewardSessions, type RewardSessionsOptions } from "./_reward_sessions.ts";

/** An engine that remembers which models it holds. */
class FakeEngine implements Engine {
  readonly pid = 0;
  readonly live = new Set<string>();
  /** What the last session was loaded with. */
  options: SessionOptions = {};
  bytes: Uint8Array = new Uint8Array();
  failing = false;
  loads = 0;

  load({ name = "", bytes }: ModelSource, options: SessionOptions): Promise<Session> {
    this.bytes = bytes;
    this.loads++;
    this.options = options;
    if (this.failing) return Promise.reject(new Error("No memory"));
    this.live.add(name);
    return Promise.resolve({
      inputNames: [],
      outputNames: [],
      run: () => Promise.resolve({}),
      dispose: () => {
        this.live.delete(name);
        return Promise.resolve();
      },
    });
  }
  place(place: string): Place {
    return { place };
  }
  keep(): Promise<void> {
    return Promise.resolve();
  }
  forget(): Promise<void> {
    return Promise.resolve();
  }
  cpuSeconds(): Promise<number> {
    return Promise.resolve(0);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

function sessionsOf(engine: Engine, options: Partial<RewardSessionsOptions>): RewardSessions {
  return new RewardSessions(engine, {
    compile: CPU_TARGET,
    session: {},
    maxBytes: 2 ** 33,
    ...options,
  });
}

/** A graph with 4 MiB of constants; each session counts for one more. */
function write() {
  const b = new Builder();
  const big = b.constant(float32(new Float32Array(2 ** 20)));
  return { b, outputs: { y: b.add(b.input("x", big), big) } };
}

Deno.test("RewardSessions frees the longest unused session beyond its bound", async () => {
  const engine = new FakeEngine();
  const cache = sessionsOf(engine, { maxBytes: 11 * 2 ** 20 });
  const use = (name: string) => cache.use(name, write, () => Promise.resolve());
  for (const name of ["a", "b", "a", "c"]) await use(name);
  assert.deepEqual([...engine.live].sort(), ["a", "c"]);
  assert.equal(engine.loads, 3);
  await use("b");
  assert.deepEqual([...engine.live].sort(), ["b", "c"]);
  await cache.dispose();
  assert.equal(engine.live.size, 0);
});

Deno.test("RewardSessions frees no session in use, even where it alone exceeds the bound", async () => {
  const engine = new FakeEngine();
  const cache = sessionsOf(engine, { maxBytes: 2 ** 20 });
  await cache.use("a", write, async () => {
    await cache.use("b", write, () => Promise.resolve());
    assert.deepEqual([...engine.live].sort(), ["a", "b"]);
  });
  await cache.use("b", write, () => Promise.resolve());
  assert.deepEqual([...engine.live], ["b"]);
});

Deno.test("RewardSessions counts the memory that a session keeps between runs", async () => {
  const engine = new FakeEngine();
  // Each session's 5 MiB fit twice, but not with the 4 MiB of a result beside them.
  const cache = sessionsOf(engine, { maxBytes: 13 * 2 ** 20 });
  const use = (name: string, isModel: boolean) =>
    cache.use(name, () => ({ ...write(), isModel }), () => Promise.resolve());
  await use("a", false);
  await use("b", false);
  assert.deepEqual([...engine.live], ["a", "b"]);
  await use("c", true);
  assert.equal(engine.options.keepMemory, true);
  assert.deepEqual([...engine.live], ["c"]);
});

Deno.test("RewardSessions has conversions of weights done once, whatever else is not optimized", async () => {
  const engine = new FakeEngine();
  const cache = sessionsOf(engine, {
    maxBytes: 2 ** 30,
    session: { graphOptimizationLevel: "disabled" },
  });
  const levelFor = async (dtype: "float32" | "float16") => {
    const write = () => {
      const b = new Builder();
      const weight = b.weight("w", { dtype, shape: [4] }, { file: "w.safetensors", offset: 0 });
      return {
        b,
        outputs: {
          y: b.add(b.input("x", { dtype: "float32", shape: [4] }), b.cast(weight, "float32")),
        },
      };
    };
    await cache.use(dtype, write, () => Promise.resolve());
    return engine.options.graphOptimizationLevel;
  };
  assert.equal(await levelFor("float32"), "disabled");
  assert.equal(await levelFor("float16"), "basic");
});

/** A model of two matrices, 400 MB each, of which one fits into what may be packed. */
function writeModel() {
  const b = new Builder();
  const type = { dtype: "float32", shape: [10_000, 10_000] } as const;
  const x = b.input("x", { dtype: "float32", shape: [1, 10_000] });
  const layer = (x: Value, name: string, offset: number) =>
    b.gemm(x, b.weight(name, type, { file: "w.safetensors", offset }), { transB: true });
  const y = layer(layer(x, "first", 0), "second", 4e8);
  return { b, outputs: { y }, isModel: true };
}

Deno.test("RewardSessions packs what fits of one model, when it has been used often", async () => {
  const engine = new FakeEngine();
  const cache = sessionsOf(engine, {
    maxBytes: 2 ** 33,
    session: { prepackWeights: false },
    packAfter: 2,
  });
  const use = (name: string) => cache.use(name, writeModel, () => Promise.resolve());
  const inputs = () =>
    fromBinary(ModelProtoSchema, engine.bytes).graph?.input.map(({ name }) => name);
  await use("a");
  await use("a");
  assert.equal(engine.loads, 1);
  assert.equal(engine.options.prepackWeights, false);
  assert.deepEqual(inputs(), ["x"]);
  await use("a");
  assert.equal(engine.loads, 2);
  assert.equal(engine.options.prepackWeights, true);
  // What is not to be packed is an input with a default.
  assert.deepEqual(inputs(), ["x", "second"]);
  for (let i = 0; i < 4; i++) await use("a");
  for (let i = 0; i < 4; i++) await use("b");
  assert.equal(engine.loads, 3);
  assert.equal(engine.options.prepackWeights, false);
  assert.deepEqual([...engine.live], ["a", "b"]);
});

Deno.test("RewardSessions loads a session once for callers that come together, and again after a failure", async () => {
  const engine = new FakeEngine();
  const cache = sessionsOf(engine, { maxBytes: 2 ** 30 });
  const use = () => cache.use("a", write, () => Promise.resolve(1));
  engine.failing = true;
  const results = await Promise.allSettled([use(), use()]);
  assert.deepEqual(results.map((r) => r.status), ["rejected", "rejected"]);
  assert.equal(engine.loads, 1);
  engine.failing = false;
  assert.deepEqual(await Promise.all([use(), use()]), [1, 1]);
  assert.equal(engine.loads, 2);
});

Deno.test("RewardSessions compiles for the provider that runs the reward", async () => {
  const engine = new FakeEngine();
  const nodesFor = async (provider: "cpu" | "cuda") => {
    const sessions = sessionsOf(engine, {
      compile: { provider, memory: 8 * 2 ** 30, precision: "float32", threads: 3 },
    });
    const write = () => {
      const b = new Builder({ differentiable: true });
      // Its probabilities take 32 MiB.
      const q = b.input("q", { dtype: "float32", shape: [8, 512, 64] });
      const y = b.attention(q, q, q, { heads: 4 });
      const [dq = y] = gradient(b, [{ value: y, cotangent: b.input("dy", y) }], [q]);
      return { b, outputs: { y, dq } };
    };
    await sessions.use("attention", write, () => Promise.resolve());
    assert.equal(engine.options.provider, provider);
    assert.equal(engine.options.intraOpNumThreads, 3);
    return fromBinary(ModelProtoSchema, engine.bytes).graph?.node.map(({ opType }) => opType);
  };
  assert.equal((await nodesFor("cpu"))?.filter((op) => op === "Scan").length, 2);
  assert.equal((await nodesFor("cuda"))?.includes("Scan"), false);
});
