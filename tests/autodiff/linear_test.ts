import assert from "node:assert/strict";
import { toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { type OpName, SPECS } from "../../autodiff/infer/mod.ts";
import { Builder, float32, gradient, importModel, type Value } from "../../autodiff/mod.ts";
import { graphCost, serialize } from "../../compile/mod.ts";
import { type ForeignNode, onnxModel } from "./_onnx_model.ts";

/** A builder whose nodes count how often anything looks at what they read. */
class CountingBuilder extends Builder {
  reads = 0;

  override control(...[op, inputs, rest]: Parameters<Builder["control"]>): readonly Value[] {
    const counted = new Proxy([...inputs], {
      get: (target, key, receiver) => {
        this.reads++;
        return Reflect.get(target, key, receiver);
      },
    });
    return super.control(op, counted, rest);
  }
}

/** How often the types of each operator's results are inferred while `body` runs. */
function countInference(ops: readonly OpName[], body: () => void): number {
  let calls = 0;
  const originals = ops.map((op) => [op, SPECS[op]] as const);
  for (const [op, { infer, ...spec }] of originals) {
    const counted = (c: Parameters<typeof infer>[0]) => (calls++, infer(c));
    Object.assign(SPECS, { [op]: { ...spec, infer: counted } });
  }
  try {
    body();
  } finally {
    Object.assign(SPECS, Object.fromEntries(originals));
  }
  return calls;
}

function relus(count: number): readonly ForeignNode[] {
  return Array.from({ length: count }, (_, i) => ({
    op: "Relu",
    inputs: [i === 0 ? "x" : `y${i - 1}`],
    outputs: [`y${i}`],
  }));
}

/** Convolution, Relu and sum, again and again. */
function residuals(count: number): readonly ForeignNode[] {
  return Array.from({ length: count / 3 }, (_, i) => {
    const x = i === 0 ? "x" : `y${3 * i - 1}`;
    return [
      { op: "Conv", inputs: [x, "w"], outputs: [`y${3 * i}`] },
      { op: "Relu", inputs: [`y${3 * i}`], outputs: [`y${3 * i + 1}`] },
      { op: "Add", inputs: [x, `y${3 * i + 1}`], outputs: [`y${3 * i + 2}`] },
    ];
  }).flat();
}

/** A chain of what shares its input's memory. */
function views(count: number): readonly ForeignNode[] {
  return Array.from({ length: count }, (_, i) => ({
    op: i % 2 === 0 ? "Identity" : "Flatten",
    inputs: [i === 0 ? "x" : `y${i - 1}`],
    outputs: [`y${i}`],
  }));
}

/** What is done to import, differentiate, count and write a model of `count` nodes. */
function work(write: (count: number) => readonly ForeignNode[], count: number) {
  const bytes = toBinary(
    ModelProtoSchema,
    onnxModel({
      opset: 17,
      inputs: { x: { shape: [1, 3, 4, 4] } },
      stored: { w: float32(new Float32Array(9).fill(0.1), [3, 3, 1, 1]) },
      nodes: write(count),
      outputs: [`y${count - 1}`],
    }),
  );
  const b = new CountingBuilder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [1, 3, 4, 4] });
  let size = 0;
  const inferences = countInference(["Add", "Conv", "Flatten", "Identity", "Relu"], () => {
    const outputs = importModel(b, bytes, { inputs: { x } });
    const [value] = Object.values(outputs);
    assert.ok(value);
    const [slope] = gradient(b, [{ value, cotangent: b.fill(1, value) }], [x]);
    assert.ok(slope);
    graphCost(b, [value, slope]);
    size = serialize(b, { value, slope }).length;
  });
  return { inferences, reads: b.reads, size };
}

for (const [name, write] of Object.entries({ relus, residuals, views })) {
  Deno.test(`Four times the nodes are four times the work: ${name}`, () => {
    const [few, many] = [work(write, 600), work(write, 2400)];
    for (const key of ["inferences", "reads"] as const) {
      const ratio = many[key] / few[key];
      assert.ok(ratio > 3.8 && ratio < 4.05, `${key}: ${few[key]}, then ${many[key]}`);
    }
    // Longer names take a few bytes more.
    assert.ok(many.size / few.size < 4.4, `${few.size} and ${many.size} bytes`);
  });
}
