import assert from "node:assert/strict";
import { float32, sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { CPU_TARGET } from "../../compile/mod.ts";
import {
  decodeGraph,
  decoderPieces,
  decodeVjpGraph,
  type ModelGraph,
  type Pieces,
  readPipeline,
  unetGraph,
  unetModules,
  unetPieces,
  unetVjpGraph,
} from "../../models/diffusers/mod.ts";
import { loraChanges } from "../../models/lora/mod.ts";
import { type Engine, openEngine, type Place } from "../../runtime/mod.ts";
import { relativeError, roundingEngine } from "../../tests/models/mod.ts";
import { randomStream } from "../random.ts";
import { byTensor } from "./_by_tensor.ts";
import { PiecewiseRunner } from "./_piecewise.ts";
import { ENGINE_BYTES, footprint, pieceLengths, piecesFootprint } from "./memory.ts";

/** What float32 sums in another order differ by, relative to a tensor's largest value. */
const ROUNDING = 2e-5;
const SIZE = { batch: 2, contexts: 2, height: 7, width: 10, tokens: 7 };
const LORA = { rank: 2, alpha: 3, targets: ["to_q", "to_out.0", "ff.net.2"] };

/** Random feeds of a graph, LoRA small as trained ones are. */
function feedsOf({ inputs }: ModelGraph): Record<string, Tensor> {
  const random = randomStream(1, "noise");
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape }]) => {
      const scale = name.includes(".lora_") ? 0.05 : 1;
      return [name, float32(random.normals(sizeOf(shape)).map((v) => scale * v), shape)];
    }),
  );
}

function assertClose(actual: Tensor | undefined, expected: Tensor | undefined, what: string) {
  assert.equal(actual?.dtype, "float32", what);
  assert.equal(expected?.dtype, "float32", what);
  assert.deepEqual(actual.shape, expected.shape, what);
  const largest = expected.data.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const apart = expected.data.reduce(
    (m, v, i) => Math.max(m, Math.abs(v - (actual.data[i] ?? NaN))),
    0,
  );
  assert.ok(apart <= ROUNDING * largest, `${what} is ${apart / largest} off`);
}

async function assertSame(
  engine: Engine,
  { forward, gradient, cuts }: {
    readonly forward: ModelGraph;
    readonly gradient: ModelGraph;
    readonly cuts: readonly Pieces[];
  },
): Promise<void> {
  const { cotangent, ...feeds } = feedsOf(gradient);
  assert.ok(cotangent);
  const [value] = Object.values(await (await engine.load(forward)).run(feeds));
  const session = await engine.load(gradient);
  const outputs = gradient.gradients ?? new Map<string, string>();
  const wanted = [...outputs.keys()];
  const expected = byTensor(
    outputs,
    await session.run({ ...feeds, cotangent }, [...outputs.values()]),
  );
  const runner = new PiecewiseRunner(engine, { intraOpNumThreads: 1 });
  for (const pieces of cuts) {
    const what = `in ${pieces.pieces.length} pieces`;
    assertClose(await runner.forward(pieces, feeds), value, `${what}, value`);
    const actual = await runner.vjp(pieces, { feeds, cotangent });
    assert.deepEqual(Object.keys(actual).sort(), [...wanted].sort());
    for (const name of wanted) assertClose(actual[name], expected[name], `${what}, ${name}`);
  }
}

for (const name of ["tiny-sd", "tiny-sdxl"]) {
  Deno.test(`${name}: checkpointed equals not checkpointed, however it is cut`, async () => {
    const engine = await openEngine({ isolation: "in-process" });
    try {
      const folder = new URL(`../../tests/golden/${name}`, import.meta.url).pathname;
      const { unet, vae } = await readPipeline(folder);
      const options = {
        ...SIZE,
        changes: loraChanges(unetModules(unet), LORA),
        sampleGradient: true,
      };
      const each = unetPieces(unet, options);
      const rest = each.pieces.length - 9;
      const forward = unetGraph(unet, { ...SIZE, changes: loraChanges(unetModules(unet), LORA) });
      await assertSame(engine, {
        forward,
        gradient: unetVjpGraph(unet, options),
        cuts: [each, unetPieces(unet, { ...options, lengths: [5, 4, rest] })],
      });
      const withoutInput = { ...options, sampleGradient: false };
      await assertSame(engine, {
        forward,
        gradient: unetVjpGraph(unet, withoutInput),
        cuts: [unetPieces(unet, { ...withoutInput, lengths: [9, rest] })],
      });
      const decoder = decoderPieces(vae, SIZE);
      await assertSame(engine, {
        forward: decodeGraph(vae, SIZE),
        gradient: decodeVjpGraph(vae, SIZE),
        cuts: [decoder, decoderPieces(vae, { ...SIZE, lengths: [3, decoder.pieces.length - 3] })],
      });
    } finally {
      await engine.close();
    }
  });
}

Deno.test("in float16 too, to its rounding, cotangents of every piece scaled by themselves", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
    const { unet } = await readPipeline(folder);
    const options = {
      ...SIZE,
      changes: loraChanges(unetModules(unet), LORA),
      sampleGradient: true,
    };
    const { cotangent, ...feeds } = feedsOf(unetVjpGraph(unet, options));
    assert.equal(cotangent?.dtype, "float32");
    const small = float32(cotangent.data.map((v) => 1e-9 * v), cotangent.shape);
    const given = { feeds, cotangent: small };
    const exact = unetPieces(unet, { ...options, lengths: [5, 8, 12] });
    const expected = await new PiecewiseRunner(engine, {}).vjp(exact, given);
    const pieces = unetPieces(unet, {
      ...options,
      lengths: [5, 8, 12],
      target: { ...CPU_TARGET, precision: "float16" },
    });
    const runner = new PiecewiseRunner(roundingEngine(engine), {});
    const error = relativeError(await runner.vjp(pieces, given), expected);
    assert.ok(error <= 1e-2, `${error}`);
    assert.ok(error >= 1e-5, `${error}: nothing was rounded`);
  } finally {
    await engine.close();
  }
});

Deno.test("pieces are few and fit into the memory, the last as large as it can be", async () => {
  const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
  const { unet } = await readPipeline(folder);
  const options = { ...SIZE, height: 16, width: 16, changes: loraChanges(unetModules(unet), LORA) };
  const cut = (lengths?: readonly number[]) => unetPieces(unet, { ...options, lengths });
  const each = cut();
  const count = each.pieces.length;
  assert.deepEqual(pieceLengths(cut, Infinity), [count]);
  // Where nothing fits, what the largest segment takes is the least that can be done.
  const least = Math.max(
    ...each.pieces.map(({ forward, gradient }) =>
      Math.max(footprint(forward.cost), gradient ? footprint(gradient.graph.cost) : 0)
    ),
  );
  const smallest = cut(pieceLengths(cut, 0));
  assert.ok(smallest.pieces.length > 4);
  assert.equal(piecesFootprint(smallest) - smallest.keptBytes, least);
  assert.ok(smallest.keptBytes < each.keptBytes);
  const whole = footprint(unetVjpGraph(unet, options).cost);
  const room = whole / 2;
  const lengths = pieceLengths(cut, ENGINE_BYTES + each.keptBytes + room);
  assert.ok(lengths.length > 1 && lengths.length <= 4, `${lengths}`);
  const fitting = cut(lengths);
  assert.ok(piecesFootprint(fitting) <= fitting.keptBytes + room);
  const last = (lengths.at(-1) ?? 0) + 1;
  const larger = cut([count - last, last]);
  assert.ok(piecesFootprint(larger) > larger.keptBytes + room);
});

Deno.test("a value that pieces make is freed when the call ends, and when it fails", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
    const { vae } = await readPipeline(folder);
    const kept = new Set<Place>();
    const watching: Engine = {
      pid: engine.pid,
      load: async (model, options) => {
        const session = await engine.load(model, options);
        return {
          ...session,
          inputNames: session.inputNames,
          outputNames: session.outputNames,
          dispose: () => session.dispose(),
          run: (feeds, fetches, run) => {
            for (const place of Object.values(run?.keep ?? {})) kept.add(place);
            return session.run(feeds, fetches, run);
          },
        };
      },
      place: (name) => engine.place(name),
      keep: (place, tensor) => engine.keep(place, tensor),
      forget: (...places) => {
        for (const place of places) kept.delete(place);
        return engine.forget(...places);
      },
      cpuSeconds: () => engine.cpuSeconds(),
      close: () => engine.close(),
    };
    const runner = new PiecewiseRunner(watching, { intraOpNumThreads: 1 });
    const pieces = decoderPieces(vae, SIZE);
    const { cotangent, ...feeds } = feedsOf(decodeVjpGraph(vae, SIZE));
    assert.ok(cotangent);
    await runner.forward(pieces, feeds);
    await runner.vjp(pieces, { feeds, cotangent });
    assert.deepEqual([...kept], []);
    const wrong = float32([1], [1]);
    await assert.rejects(runner.vjp(pieces, { feeds, cotangent: wrong }), /cotangent.*has shape/);
    assert.deepEqual([...kept], []);
  } finally {
    await engine.close();
  }
});
