import assert from "node:assert/strict";
import { getPriority } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TensorProto_DataType as Onnx } from "onnx-buf";
import { float32, int64, type Tensor } from "../autodiff/mod.ts";
import { ChildEngine } from "./child_engine.ts";
import { openEngine } from "./engine.ts";
import { EngineCrashedError, RuntimeError, type RuntimeErrorCode } from "./errors.ts";
import type { Engine, Provider } from "./session.ts";
import {
  counting,
  external,
  serialize,
  sumAndProduct,
  unary,
  value,
} from "./testing/tiny_models.ts";

const ISOLATIONS = ["in-process", "child"] as const;

/** Registers a test of the engine in this process and of the one in a child process. */
function testEngines(name: string, test: (engine: Engine) => Promise<void>): void {
  for (const isolation of ISOLATIONS) {
    Deno.test(`${isolation} engine: ${name}`, async () => {
      const engine = await openEngine({ isolation, onStderr: () => {} });
      try {
        await test(engine);
      } finally {
        await engine.close();
      }
    });
  }
}

async function fails(
  promise: Promise<unknown>,
  code: RuntimeErrorCode,
  message: RegExp,
): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert(error instanceof RuntimeError, `${error}`);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    return true;
  });
}

const scalar = (value: number): Tensor => float32([value], []);
const steps = (count: bigint): Tensor => int64(BigInt64Array.of(count), []);

testEngines("runs a model and fetches what is asked for", async (engine) => {
  const session = await engine.load({ bytes: sumAndProduct() });
  assert.deepEqual(session.inputNames, ["a", "b"]);
  assert.deepEqual(session.outputNames, ["sum", "product"]);
  const feeds = { a: float32([1, 2, 3, 4], [2, 2]), b: float32([5, 6, 7, 8], [2, 2]) };
  const all = await session.run(feeds);
  const some = await session.run({ ...feeds, a: feeds.b }, ["product"]);
  assert.deepEqual(some, { product: float32([25, 36, 49, 64], [2, 2]) });
  await session.dispose();
  // Outputs are the caller's: neither a later run nor the end of the session changes them.
  assert.deepEqual(all, {
    sum: float32([6, 8, 10, 12], [2, 2]),
    product: float32([5, 12, 21, 32], [2, 2]),
  });
});

const SAMPLES: readonly (readonly [Onnx, Tensor])[] = [
  [Onnx.FLOAT, float32([-0, 1.5, NaN, -Infinity])],
  [Onnx.DOUBLE, { dtype: "float64", shape: [2], data: Float64Array.of(Math.PI, 5e-324) }],
  // 1, -infinity and a NaN with a payload.
  [Onnx.FLOAT16, { dtype: "float16", shape: [3], data: Uint16Array.of(0x3c00, 0xfc00, 0x7e01) }],
  [Onnx.INT64, int64(BigInt64Array.of(2n ** 62n + 1n, -1n))],
  [Onnx.INT32, { dtype: "int32", shape: [1, 2], data: Int32Array.of(-(2 ** 31), 7) }],
  [Onnx.INT8, { dtype: "int8", shape: [3], data: Int8Array.of(-128, 0, 127) }],
  [Onnx.UINT8, { dtype: "uint8", shape: [3], data: Uint8Array.of(255, 0, 1) }],
  [Onnx.BOOL, { dtype: "bool", shape: [3], data: Uint8Array.of(1, 0, 1) }],
  [Onnx.FLOAT, float32([], [0])],
  // Larger than what a pipe holds, and not a multiple of it.
  [Onnx.FLOAT, float32(Float32Array.from({ length: 100_003 }, (_, i) => i))],
];

testEngines("passes tensors of every dtype unchanged", async (engine) => {
  for (const [type, x] of SAMPLES) {
    const session = await engine.load({ bytes: unary("Identity", type) });
    assert.deepEqual(await session.run({ x }), { y: x });
    // A view into the middle of a buffer.
    const second = x.shape.length === 1 && x.dtype === "float32" && x.data.length > 1;
    if (second) {
      const { y } = await session.run({ x: float32(x.data.subarray(1)) });
      assert.deepEqual(y, float32(x.data.slice(1)));
    }
  }
});

testEngines("means by float16 bits and bool bytes what ONNX Runtime does", async (engine) => {
  const session = await engine.load({
    bytes: serialize({
      node: [
        { opType: "Not", input: ["flag"], output: ["not"] },
        { opType: "Neg", input: ["half"], output: ["negative"] },
      ],
      input: [value("flag", Onnx.BOOL, [2]), value("half", Onnx.FLOAT16, [2])],
      output: [value("not", Onnx.BOOL, [2]), value("negative", Onnx.FLOAT16, [2])],
    }),
  });
  const outputs = await session.run({
    flag: { dtype: "bool", shape: [2], data: Uint8Array.of(1, 0) },
    half: { dtype: "float16", shape: [2], data: Uint16Array.of(0x3c00, 0xc200) },
  });
  assert.deepEqual(outputs, {
    not: { dtype: "bool", shape: [2], data: Uint8Array.of(0, 1) },
    negative: { dtype: "float16", shape: [2], data: Uint16Array.of(0xbc00, 0x4200) },
  });
});

testEngines("keeps tensors for later runs", async (engine) => {
  const session = await engine.load({ bytes: sumAndProduct() });
  const b = float32([1, 1], [1, 2]);
  const k = engine.place("k");
  const run = async () => (await session.run({ a: k, b }, ["sum"])).sum;
  const kept = float32([2, 3], [1, 2]);
  await engine.keep(k, kept);
  kept.data.fill(99);
  assert.deepEqual(await run(), float32([3, 4], [1, 2]));
  // Calls take effect in their order, awaited or not.
  const replaced = engine.keep(k, float32([5, 6], [1, 2]));
  const before = run();
  const forgotten = engine.forget(k);
  assert.deepEqual(await before, float32([6, 7], [1, 2]));
  await Promise.all([replaced, forgotten]);
  await fails(run(), "feed_invalid", /^Feed 'a' refers to 'k', which the engine does not keep$/);
  await engine.keep(k, float32([5], [1, 1]));
  await fails(run(), "feed_invalid", /^Feed 'a' has shape \[1, 1\], expected \[rows, 2\]$/);
  // Places of one name are two places, and another engine's is none of this one's.
  const other = engine.place("k");
  await engine.keep(other, float32([7, 8], [1, 2]));
  assert.deepEqual((await session.run({ a: other, b }, ["sum"])).sum, float32([8, 9], [1, 2]));
  await fails(run(), "feed_invalid", /has shape \[1, 1\]/);
  const elsewhere = await openEngine({ isolation: "in-process" });
  try {
    const foreign = elsewhere.place("k");
    await elsewhere.keep(foreign, float32([7, 8], [1, 2]));
    const lost = /'k', which the engine does not keep$|'k' is a place of another engine/;
    await fails(session.run({ a: foreign, b }), "feed_invalid", lost);
  } finally {
    await elsewhere.close();
  }
});

testEngines("keeps what one run makes for another", async (engine) => {
  const session = await engine.load({ bytes: sumAndProduct() });
  const [a, b] = [float32([2, 3], [1, 2]), float32([10, 10], [1, 2])];
  const [s, t] = [engine.place("s"), engine.place("t")];
  const rest = await session.run({ a, b }, undefined, { keep: { sum: s } });
  assert.deepEqual(rest, { product: float32([20, 30], [1, 2]) });
  // A kept result may replace what the run that makes it reads.
  assert.deepEqual(await session.run({ a: s, b }, [], { keep: { sum: s } }), {});
  const { sum } = await session.run({ a: s, b }, ["sum"]);
  assert.deepEqual(sum, float32([32, 33], [1, 2]));
  await fails(
    session.run({ a, b }, ["sum"], { keep: { sum: t } }),
    "fetch_invalid",
    /^Fetch 'sum' is named twice/,
  );
  const after = session.run({ a: s, b }, ["sum"]);
  await engine.forget(s, t);
  assert.deepEqual((await after).sum, float32([32, 33], [1, 2]));
  await fails(session.run({ a: s, b }), "feed_invalid", /does not keep$/);
});

testEngines("says what CPU time it took, as the system counts it", async (engine) => {
  const session = await engine.load({ bytes: counting() });
  const before = await engine.cpuSeconds();
  const counted = await systemCpuSeconds(engine.pid);
  await session.run({ start: scalar(0), steps: steps(100_000n) });
  const spent = await engine.cpuSeconds() - before;
  assert(spent > 0.02, `${spent} s`);
  // The system counts in hundredths of a second, this process's other work between two questions too.
  if (counted !== undefined) {
    const system = (await systemCpuSeconds(engine.pid) ?? NaN) - counted;
    assert(
      Math.abs(system - spent) < 0.05 + 0.1 * spent,
      `${spent} s, the system says ${system} s`,
    );
  }
});

/** User and system seconds of a process in Linux's own table; undefined elsewhere. */
async function systemCpuSeconds(pid: number): Promise<number | undefined> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => undefined);
  // Fields 14 and 15; the second one, a name in brackets, may hold spaces.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields && (Number(fields[11]) + Number(fields[12])) / 100;
}

testEngines("refuses wrong feeds and fetches, and goes on", async (engine) => {
  const session = await engine.load({ bytes: sumAndProduct() });
  const a = float32([1, 2], [1, 2]);
  const feed = (feeds: Record<string, Tensor>, message: RegExp) =>
    fails(session.run(feeds), "feed_invalid", message);
  await feed({ a }, /^Feed 'b' is missing, expected float32 \[rows, 2\]$/);
  await feed({ a, b: a, c: a }, /^Feed 'c' is unknown, expected only a, b$/);
  await feed(
    { a, b: int64([1, 2], [1, 2]) },
    /^Feed 'b' has dtype int64, expected float32$/,
  );
  await feed({ a, b: float32([1, 2]) }, /^Feed 'b' has shape \[2\], expected \[rows, 2\]$/);
  await feed(
    { a, b: { dtype: "float32", shape: [2, 2], data: Float32Array.of(1) } },
    /^Feed 'b' has 4 bytes of data, expected 16 for float32 \[2, 2\]$/,
  );
  await feed(
    { a, b: { dtype: "float32", shape: [-1, -2], data: Float32Array.of(1, 2) } },
    /^Feed 'b' has shape \[-1, -2\], expected whole numbers$/,
  );
  await fails(
    session.run({ a, b: a }, ["quotient"]),
    "fetch_invalid",
    /^Fetch 'quotient' is unknown, expected some of sum, product$/,
  );
  await fails(session.run({ a, b: a }, []), "fetch_invalid", /^No fetch is named/);
  // Shapes that only the operators find fault with.
  await fails(
    session.run({ a: float32([1, 2, 3, 4], [2, 2]), b: float32(new Float32Array(6), [3, 2]) }),
    "run_failed",
    /^Model 'unnamed' failed: /,
  );
  // ONNX Runtime itself would let this pass.
  const loop = await engine.load({ bytes: counting() });
  await fails(
    loop.run({ start: float32([1], [1]), steps: steps(1n) }),
    "feed_invalid",
    /^Feed 'start' has shape \[1\], expected \[\]$/,
  );
  assert.deepEqual((await session.run({ a, b: a }, ["sum"])).sum, float32([2, 4], [1, 2]));
});

testEngines("refuses what is not a model it can run", async (engine) => {
  const load = (bytes: Uint8Array, message: RegExp) =>
    fails(engine.load({ bytes, name: "bad" }), "model_invalid", message);
  await load(Uint8Array.of(1, 2, 3), /^Model 'bad' is not an ONNX file/);
  await load(new Uint8Array(), /^Model 'bad' has no graph$/);
  await load(unary("NoSuchOperator", Onnx.FLOAT), /^Model 'bad' cannot be loaded: .*NoSuchOp/s);
  await load(unary("Identity", Onnx.BFLOAT16), /'x' as bfloat16/);
  await load(unary("Identity", Onnx.UINT16), /'x', which is uint16/);
});

testEngines("says which execution provider is missing", async (engine) => {
  const bytes = unary("Neg", Onnx.FLOAT);
  const providers: readonly Provider[] = ["cuda", "webgpu"];
  for (const provider of providers) {
    const result = await engine.load({ bytes }, { provider }).catch((error) => error);
    if (!(result instanceof Error)) continue; // This machine has it.
    await fails(
      Promise.reject(result),
      "provider_unavailable",
      new RegExp(`^Execution provider '${provider}' is not available: it needs`),
    );
  }
});

testEngines("disposes sessions", async (engine) => {
  const session = await engine.load({ bytes: unary("Neg", Onnx.FLOAT), name: "m" });
  const other = await engine.load({ bytes: unary("Neg", Onnx.FLOAT) });
  const last = session.run({ x: float32([1]) });
  await session.dispose();
  await session.dispose();
  assert.deepEqual(await last, { y: float32([-1]) });
  await fails(session.run({ x: float32([1]) }), "closed", /is disposed$/);
  assert.deepEqual(await other.run({ x: float32([1]) }), { y: float32([-1]) });
  await engine.close();
  await fails(other.run({ x: float32([1]) }), "closed", /is closed$/);
  await fails(engine.load({ bytes: unary("Neg", Onnx.FLOAT) }), "closed", /is closed$/);
  await other.dispose();
});

testEngines("takes aborted runs off the queue", async (engine) => {
  const session = await engine.load({ bytes: counting() });
  const run = (signal?: AbortSignal) =>
    session.run({ start: scalar(0), steps: steps(20_000n) }, undefined, { signal });
  const [started, waiting] = [new AbortController(), new AbortController()];
  const first = run(started.signal);
  const second = run(waiting.signal);
  const third = run();
  waiting.abort();
  await assert.rejects(second, { name: "AbortError" });
  await assert.rejects(run(waiting.signal), { name: "AbortError" });
  await new Promise((resolve) => setTimeout(resolve, 1));
  started.abort();
  assert.deepEqual((await first).end, scalar(20_000));
  assert.deepEqual((await third).end, scalar(20_000));
});

/** Writes sub/w.safetensors as its format has it, with data at odd offsets; returns where the tensors start. */
async function writeSafetensors(root: string) {
  const weight = Float32Array.of(1, 2, 3, 4, 5, 6);
  const bias = Uint16Array.of(0x3c00, 0x4000, 0xb800); // 1, 2, -0.5 in float16
  const header = new TextEncoder().encode(JSON.stringify({
    pad: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
    weight: { dtype: "F32", shape: [2, 3], data_offsets: [1, 25] },
    bias: { dtype: "F16", shape: [3], data_offsets: [25, 31] },
  }));
  const data = 8 + Math.ceil(header.length / 8) * 8;
  const file = new Uint8Array(data + 31);
  new DataView(file.buffer).setBigUint64(0, BigInt(data - 8), true);
  file.fill(0x20, 8, data);
  file.set(header, 8);
  file.set(new Uint8Array(weight.buffer), data + 1);
  file.set(new Uint8Array(bias.buffer), data + 25);
  await Deno.mkdir(join(root, "sub"));
  await Deno.writeFile(join(root, "sub", "w.safetensors"), file);
  return { weight: data + 1, bias: data + 25 };
}

type Place = { location: string; offset: number; length?: number };

/** y = x · weight + float32(bias), the weights in a file. */
function linear(weight: Place, bias: Place): Uint8Array {
  return serialize({
    node: [
      { opType: "MatMul", input: ["x", "weight"], output: ["xw"] },
      {
        opType: "Cast",
        input: ["bias"],
        output: ["bias32"],
        attribute: [{ name: "to", type: 2, i: BigInt(Onnx.FLOAT) }],
      },
      { opType: "Add", input: ["xw", "bias32"], output: ["y"] },
    ],
    initializer: [
      external("weight", Onnx.FLOAT, { dims: [2, 3], ...weight }),
      external("bias", Onnx.FLOAT16, { dims: [3], ...bias }),
    ],
    input: [value("x", Onnx.FLOAT, ["rows", 2])],
    output: [value("y", Onnx.FLOAT, ["rows", 3])],
  });
}

testEngines("reads weights where they lie in a safetensors file", async (engine) => {
  const root = await Deno.makeTempDir();
  try {
    const at = await writeSafetensors(root);
    const location = "sub/w.safetensors";
    const bytes = linear(
      { location, offset: at.weight, length: 24 },
      { location, offset: at.bias, length: 6 },
    );
    assert.equal(at.weight % 4, 1);
    for (const prepackWeights of [true, false]) {
      const session = await engine.load({ bytes, weightsRoot: root }, { prepackWeights });
      // [10, 1] · [[1, 2, 3], [4, 5, 6]] + [1, 2, -0.5]
      assert.deepEqual(await session.run({ x: float32([10, 1], [1, 2]) }), {
        y: float32([15, 27, 35.5], [1, 3]),
      });
      await session.dispose();
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

testEngines("reads no weights outside their root, and no more than there are", async (engine) => {
  const folder = await Deno.makeTempDir();
  const root = join(folder, "root");
  try {
    await Deno.mkdir(root);
    const at = await writeSafetensors(root);
    const outside = join(folder, "secret");
    await Deno.writeFile(outside, new Uint8Array(100));
    await Deno.symlink(outside, join(root, "link"));
    await Deno.symlink(folder, join(root, "up"));
    const bias = { location: "sub/w.safetensors", offset: at.bias, length: 6 };
    const refuse = (weight: Place, message: RegExp, weightsRoot: string | undefined = root) =>
      fails(
        engine.load({
          bytes: linear(weight, bias),
          name: "m",
          ...(weightsRoot && { weightsRoot }),
        }),
        "weights_invalid",
        message,
      );
    for (const location of ["../secret", "sub/../../secret", outside, "..\\secret", ""]) {
      await refuse({ location, offset: 0, length: 24 }, /, expected a relative path inside/);
    }
    for (const location of ["link", "up/secret", "up/root/../secret"]) {
      await refuse(
        { location, offset: 0, length: 24 },
        /leaves the weights root|expected a relative/,
      );
    }
    // ONNX Runtime's own marker for an address in memory, as a model from elsewhere must never have.
    await refuse({ location: "*/_ORT_MEM_ADDR_/*", offset: 0, length: 24 }, /it does not exist$/);
    await refuse({ location: "missing", offset: 0, length: 24 }, /'weight' lies in 'missing'/);
    await refuse({ location: "sub", offset: 0, length: 24 }, /which is not a file$/);
    await refuse({ ...bias, offset: at.weight + 8, length: 24 }, /the file is truncated/);
    await refuse(bias, /cannot be read: it does not exist$/, join(folder, "nowhere"));
    await refuse(bias, /came without a weights root$/, "");
    // Without a length, what the shape needs must be there.
    await fails(
      engine.load({
        bytes: linear({ location: bias.location, offset: at.bias }, bias),
        weightsRoot: root,
      }),
      "model_invalid",
      /weight/,
    );
    // Weights inside a node's graph are found too.
    await fails(
      engine.load({
        bytes: serialize({
          node: [{
            opType: "If",
            input: ["x"],
            output: ["y"],
            attribute: [{
              name: "then_branch",
              type: 5,
              g: {
                initializer: [
                  external("deep", Onnx.FLOAT, { dims: [1], location: "link", offset: 0 }),
                ],
              },
            }],
          }],
        }),
        weightsRoot: root,
      }),
      "weights_invalid",
      /^Weight 'deep' lies in 'link', a link that leaves/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("child engine: leaves this process responsive while it computes", async () => {
  const engine = await openEngine({ isolation: "child" });
  const session = await engine.load({ bytes: counting() });
  let computing = true;
  let ticks = 0;
  const run = session.run({ start: scalar(0), steps: steps(100_000n) }).finally(() => {
    computing = false;
  });
  while (computing) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    ticks++;
  }
  assert.deepEqual((await run).end, scalar(100_000));
  // The same run in this process lets the timer fire once.
  assert(ticks > 5, `${ticks} ticks`);
  await engine.close();
});

Deno.test("child engine: a crash fails its calls and nothing else", async () => {
  const engine = await ChildEngine.open({ name: "doomed" });
  const other = await ChildEngine.open();
  const session = await engine.load({ bytes: counting() });
  const survivor = await other.load({ bytes: unary("Neg", Onnx.FLOAT) });
  const endless = session.run({ start: scalar(0), steps: steps(2n ** 60n) });
  const waiting = session.run({ start: scalar(0), steps: steps(1n) });
  setTimeout(() => Deno.kill(engine.pid, "SIGKILL"), 50);
  await Promise.all(
    [endless, waiting, session.run({})].map((call) =>
      assert.rejects(call, (error) => {
        assert(error instanceof EngineCrashedError);
        assert.equal(error.exit.signal, "SIGKILL");
        assert.match(error.message, /^Engine 'doomed' \(pid \d+\) ended with signal SIGKILL/);
        return true;
      })
    ),
  );
  await fails(engine.load({ bytes: counting() }), "engine_crashed", /SIGKILL/);
  assert.deepEqual(await survivor.run({ x: float32([2]) }), { y: float32([-2]) });
  await session.dispose();
  await engine.close();
  await other.close();
});

Deno.test("child engine: closing interrupts the run in progress", async () => {
  const engine = await openEngine({ isolation: "child" });
  const session = await engine.load({ bytes: counting() });
  const endless = session.run({ start: scalar(0), steps: steps(2n ** 60n) });
  const refused = fails(endless, "closed", /is closed$/);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await engine.close();
  await refused;
});

Deno.test("child engine: the process ends with its stdin, as when the parent dies", async () => {
  const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-lock",
      `--config=${path("../deno.json")}`,
      "--allow-read",
      "--allow-ffi",
      path("engine_main.ts"),
    ],
    stdin: "piped",
    stdout: "null",
  }).spawn();
  await child.stdin.close();
  assert.equal((await child.status).code, 0);
});

Deno.test("A child engine gives way to the process that started it", async () => {
  const engine = await ChildEngine.open();
  assert.equal(getPriority(engine.pid), Math.min(19, getPriority() + 5));
  await engine.close();
});
