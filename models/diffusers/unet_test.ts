import assert from "node:assert/strict";
import { Builder, float32, type TensorOf } from "../../autodiff/mod.ts";
import { CPU_TARGET } from "../../compile/mod.ts";
import {
  assertClose,
  float,
  readTensors,
  relativeError,
  repositoryPath,
  roundingEngine,
  runOnce,
  withEngine,
  withPrefix,
} from "../../tests/models/mod.ts";
import type { Session } from "../../runtime/mod.ts";
import { TEST_PROVIDER } from "../../runtime/testing/mod.ts";
import { loraChanges, loraShapes } from "../lora/mod.ts";
import { compose, type Segment } from "../segments.ts";
import { WeightScope } from "../weight_scope.ts";
import { openWeights } from "../weights/mod.ts";
import { unetGraph, unetVjpGraph } from "./graphs.ts";
import type { Part } from "./pipeline.ts";
import { unet, unetSegments } from "./unet.ts";
import { parseUNetConfig, type UNetConfig } from "./unet_config.ts";
import { unetModules } from "./unet_modules.ts";

// Values are PyTorch's in float64 (tests/models/make_model_goldens.py).
const VALUES = 1e-5;
const GRADIENTS = 3e-5;

type Float32 = TensorOf<"float32">;

const CASES = {
  unet_sd2: "tests/golden/models/unet_sd2",
  unet_plain_middle: "tests/golden/models/unet_plain_middle",
  unet_no_middle: "tests/golden/models/unet_no_middle",
  unet_zoo: "zoo/pipeline/unet",
};

async function readPart(folder: string): Promise<Part<UNetConfig>> {
  const path = repositoryPath(folder);
  const config = JSON.parse(await Deno.readTextFile(`${path}/config.json`));
  return { config: parseUNetConfig(config, path), weights: await openWeights(path) };
}

for (const [name, folder] of Object.entries(CASES)) {
  Deno.test(`${name}: prediction and gradients are PyTorch's`, () =>
    withEngine(async (engine) => {
      const part = await readPart(folder);
      const golden = `tests/golden/models/${name}`;
      const values = readTensors(`${golden}/values.safetensors`);
      const lora = JSON.parse(await Deno.readTextFile(repositoryPath(`${golden}/facts.json`)));
      const expected = withPrefix(values, "expected.");
      const tensors = withPrefix(values, "lora.");
      const { sample, timestep, encoder_hidden_states, cotangent } = values;
      assert.ok(sample && timestep && encoder_hidden_states && cotangent);
      const [batch = 0, , height = 0, width = 0] = sample.shape;
      const size = { batch, height, width, tokens: encoder_hidden_states.shape[1] ?? 0 };
      const inputs = { sample, timestep, encoder_hidden_states };

      const shapes = loraShapes(unetModules(part), lora);
      assert.deepEqual(shapes.map((s) => s.name).sort(), Object.keys(tensors).sort());
      for (const { name, shape } of shapes) assert.deepEqual(tensors[name]?.shape, shape, name);

      const changes = loraChanges(unetModules(part), lora);
      const { plain, ...rest } = expected;
      assert.ok(plain && rest.prediction);
      const without = await runOnce(engine, unetGraph(part, size), inputs);
      assertClose(without.prediction, plain, { tolerance: VALUES, what: "prediction, no LoRA" });
      const forward = await runOnce(engine, unetGraph(part, { ...size, changes }), {
        ...inputs,
        ...tensors,
      });
      assertClose(forward.prediction, rest.prediction, { tolerance: VALUES, what: "prediction" });
      for (const normalizationMemory of [Infinity, 0]) {
        const options = { ...size, changes, sampleGradient: true, policy: { normalizationMemory } };
        const graph = unetVjpGraph(part, options);
        const actual = await runOnce(engine, graph, { ...inputs, ...tensors, cotangent });
        assert.deepEqual(Object.keys(actual).sort(), Object.keys(rest).sort());
        for (const [what, value] of Object.entries(rest)) {
          assertClose(actual[what], value, {
            tolerance: what === "prediction" ? VALUES : GRADIENTS,
            what,
          });
        }
      }
    }));
}

// What rounding to 11 bits at thousands of operators leaves: 0.0006 and 0.0023 of the trained model, 0.0019 and 0.0067 of
// the random one. Another order of sums rounds other values, and changes these by half.
const HALF_VALUES = 4e-3;
const HALF_GRADIENTS = 1.2e-2;

for (const name of ["unet_sd2", "unet_zoo"] as const) {
  Deno.test(`${name}: in float16, gradients of any size of cotangent are as near to PyTorch's`, () =>
    withEngine(async (engine) => {
      const part = await readPart(CASES[name]);
      const golden = `tests/golden/models/${name}`;
      const values = readTensors(`${golden}/values.safetensors`);
      const lora = JSON.parse(await Deno.readTextFile(repositoryPath(`${golden}/facts.json`)));
      const { plain: _plain, prediction, ...gradients } = withPrefix(values, "expected.");
      const { sample, timestep, encoder_hidden_states, ...rest } = values;
      assert.ok(sample && timestep && encoder_hidden_states && prediction);
      const [batch = 0, , height = 0, width = 0] = sample.shape;
      const tokens = encoder_hidden_states.shape[1] ?? 0;
      const size = { batch, height, width, tokens };
      const inputs = { sample, timestep, encoder_hidden_states, ...withPrefix(values, "lora.") };
      const graph = unetVjpGraph(part, {
        ...size,
        changes: loraChanges(unetModules(part), lora),
        sampleGradient: true,
        target: { ...CPU_TARGET, precision: "float16" },
      });
      const times = ({ data, shape }: Float32, factor: number) =>
        float32(data.map((v) => v * factor), shape);
      const errorOf = async (session: Session, factor: number) => {
        const cotangent = times(float(rest, "cotangent"), factor);
        const out = await session.run({ ...inputs, cotangent });
        const found = Object.fromEntries(
          Object.keys(gradients).map((name) => [name, times(float(out, name), 1 / factor)]),
        );
        const error = relativeError(found, gradients);
        assert.ok(error <= HALF_GRADIENTS, `gradients of ${factor} times the cotangent: ${error}`);
        const value = relativeError(out, { prediction });
        assert.ok(value <= HALF_VALUES, `prediction: ${value}`);
        return error;
      };
      const rounding = await roundingEngine(engine).load(graph);
      const error = await errorOf(rounding, 1);
      // Powers of two, which change no digit.
      for (const factor of [2 ** -27, 2 ** 14]) {
        const other = await errorOf(rounding, factor);
        assert.ok(Math.abs(other - error) <= 1e-6, `${other} with ${factor}, ${error} without`);
      }
      assert.equal(await errorOf(rounding, 1), error);
      await rounding.dispose();
      // The provider's own way with float16.
      const own = await engine.load(graph, { provider: TEST_PROVIDER });
      for (const factor of [1, 1e-8, 1e4]) await errorOf(own, factor);
      await own.dispose();
    }));
}

Deno.test("a U-Net is one program however its segments are grouped", async () => {
  const { config, weights } = await readPart(CASES.unet_sd2);
  const b = new Builder();
  const s = new WeightScope(b, weights);
  const input = (name: string, shape: number[]) => b.input(name, { dtype: "float32", shape });
  const inputs = {
    sample: input("sample", [1, 4, 5, 6]),
    timestep: input("timestep", [1]),
    encoder_hidden_states: input("encoder_hidden_states", [1, 3, 10]),
  };
  const whole = unet(s, inputs, { config });
  const nodes = b.nodes.length;

  // One segment at a time, each seeing what it says it reads and nothing else.
  const segments = unetSegments(config, { height: 5, width: 6 });
  const values = new Map(Object.entries(inputs));
  for (const segment of segments) {
    const read = Object.fromEntries(segment.reads.map((name) => {
      const value = values.get(name);
      assert.ok(value, `${segment.name} reads ${name} before it is made`);
      return [name, value];
    }));
    values.set(segment.name, compose([segment], { context: { b, s }, inputs: read }));
  }
  assert.deepEqual(values.get("conv_out")?.shape, whole.shape);
  assert.equal(b.nodes.length, 2 * nodes);
});

Deno.test("a segment cannot read what it does not declare", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [1] });
  const greedy: Segment<{ b: Builder }> = { name: "g", reads: [], build: (_, read) => read("x") };
  assert.throws(
    () => compose([greedy], { context: { b }, inputs: { x } }),
    /Segment "g" has no value "x"/,
  );
});

Deno.test("inputs that do not fit the configuration are refused when the graph is built", async () => {
  const part = await readPart(CASES.unet_sd2);
  const b = new Builder();
  const s = new WeightScope(b, part.weights);
  const input = (name: string, shape: number[]) => b.input(name, { dtype: "float32", shape });
  const inputs = {
    sample: input("sample", [1, 3, 8, 8]),
    timestep: input("timestep", [1]),
    encoder_hidden_states: input("encoder_hidden_states", [1, 3, 10]),
  };
  const { config } = part;
  assert.throws(
    () => unet(s, inputs, { config }),
    /Latents have shape \[1,3,8,8\], expected \[1, 4, height, width\]/,
  );
  const sample = input("good", [1, 4, 8, 8]);
  const narrow = input("narrow", [1, 3, 9]);
  assert.throws(
    () => unet(s, { ...inputs, sample, encoder_hidden_states: narrow }, { config }),
    /Text states have shape \[1,3,9\], expected \[1, tokens, 10\]/,
  );
  assert.throws(
    () => unet(s, { ...inputs, sample, timestep: input("two", [2]) }, { config }),
    /Timesteps have shape \[2\], expected \[1\]/,
  );
});

Deno.test("predictions for several contexts are those of repeated samples", () =>
  withEngine(async (engine) => {
    const part = await readPart(CASES.unet_sd2);
    const values = readTensors("tests/golden/models/unet_sd2/values.safetensors");
    const lora = JSON.parse(
      await Deno.readTextFile(repositoryPath("tests/golden/models/unet_sd2/facts.json")),
    );
    const tensors = withPrefix(values, "lora.");
    const changes = loraChanges(unetModules(part), lora);
    const [sample, timestep] = [float(values, "sample"), float(values, "timestep")];
    const [states, cotangent] = [
      float(values, "encoder_hidden_states"),
      float(values, "cotangent"),
    ];
    const [batch = 0, , height = 0, width = 0] = sample.shape;
    const size = {
      batch,
      height,
      width,
      tokens: states.shape[1] ?? 0,
      changes,
      sampleGradient: true,
    };
    const twice = (t: Float32, second: (v: number) => number) =>
      float32([...t.data, ...t.data.map(second)], [2 * batch, ...t.shape.slice(1)]);
    const rest = {
      ...tensors,
      encoder_hidden_states: twice(states, (v) => 0.5 - v),
      cotangent: twice(cotangent, (v) => -3 * v),
    };
    const apart = await runOnce(engine, unetVjpGraph(part, { ...size, batch: 2 * batch }), {
      ...rest,
      sample: twice(sample, (v) => v),
      timestep: twice(timestep, (v) => v),
    });
    const shared = await runOnce(engine, unetVjpGraph(part, { ...size, contexts: 2 }), {
      ...rest,
      sample,
      timestep,
    });
    const { "grad.sample": dx, ...others } = apart;
    for (const [what, value] of Object.entries(others)) {
      assertClose(shared[what], value, { tolerance: VALUES, what });
    }
    assert.ok(dx?.dtype === "float32");
    const n = sample.data.length;
    const sum = float32(
      dx.data.subarray(0, n).map((v, i) => v + (dx.data[n + i] ?? NaN)),
      sample.shape,
    );
    assertClose(shared["grad.sample"], sum, { tolerance: VALUES, what: "grad.sample" });
  }));

Deno.test("a batch is its rows, one by one", () =>
  withEngine(async (engine) => {
    const part = await readPart(CASES.unet_no_middle);
    const values = readTensors("tests/golden/models/unet_no_middle/values.safetensors");
    const whole = values["expected.plain"];
    assert.ok(whole);
    const row = (name: string, i: number) => {
      const t = values[name];
      assert.ok(t?.dtype === "float32");
      const n = t.data.length / 3;
      return float32(t.data.slice(i * n, (i + 1) * n), [1, ...t.shape.slice(1)]);
    };
    const graph = unetGraph(part, { batch: 1, height: 4, width: 6, tokens: 4 });
    for (let i = 0; i < 3; i++) {
      const feeds = ["sample", "timestep", "encoder_hidden_states"].map((n) => [n, row(n, i)]);
      const { prediction } = await runOnce(engine, graph, Object.fromEntries(feeds));
      const what = `row ${i}`;
      assertClose(prediction, row("expected.plain", i), { tolerance: VALUES, what });
    }
  }));
