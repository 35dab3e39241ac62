import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { type GraphProto, ModelProtoSchema } from "onnx-buf";
import { join } from "node:path";
import { openEngine } from "../runtime/mod.ts";
import { Builder, float, float32, int, ints, string, type Value } from "../autodiff/mod.ts";
import { serialize } from "./serialize.ts";

const F3 = { dtype: "float32", shape: [3] } as const;

function graphOf(b: Builder, outputs: Readonly<Record<string, Value>>): GraphProto {
  const { graph, irVersion, opsetImport } = fromBinary(ModelProtoSchema, serialize(b, outputs));
  assert(graph !== undefined);
  assert.equal(irVersion, 9n);
  assert.deepEqual(opsetImport.map(({ domain, version }) => [domain, version]), [
    ["", 20n],
    ["com.microsoft", 1n],
  ]);
  return graph;
}

const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name);

Deno.test("only what the outputs need is written, but every input stays", () => {
  const b = new Builder();
  const [x, unused] = [b.input("x", F3), b.input("unused", F3)];
  const y = b.exp(x);
  b.mul(unused, b.fill(3, F3));
  const graph = graphOf(b, { y });
  assert.deepEqual(names(graph.input), ["x", "unused"]);
  assert.deepEqual(names(graph.node), ["Exp"]);
  assert.deepEqual(graph.initializer, []);
});

Deno.test("results that nothing reads are written last, the first made after the others", () => {
  const b = new Builder();
  const x = b.input("x", F3);
  const first = b.exp(x);
  const middle = b.sin(x);
  const graph = graphOf(b, { first, last: b.sqrt(b.cos(middle)), second: b.neg(middle) });
  assert.deepEqual(graph.node.map(({ opType }) => opType), ["Sin", "Cos", "Neg", "Sqrt", "Exp"]);
});

Deno.test("outputs have the names asked for, whatever they are and however often", () => {
  const b = new Builder();
  const x = b.input("x", F3);
  const y = b.exp(x);
  const z = b.sin(y);
  const constant = b.fill(2, F3);
  // "Exp" and "const" are also names of values inside.
  const graph = graphOf(b, { Exp: z, const: y, again: y, same: x, constant });
  assert.deepEqual(names(graph.output), ["Exp", "const", "again", "same", "constant"]);
  const made = graph.node.flatMap(({ output }) => output);
  assert.equal(new Set(made).size, made.length);
  for (const name of names(graph.output)) assert(made.includes(name), name);
  const ops = graph.node.map(({ opType }) => opType);
  assert.deepEqual(ops.toSorted(), ["Exp", "Identity", "Identity", "Identity", "Sin"]);
});

Deno.test("an output may not have an input's name, and there must be one", () => {
  const b = new Builder();
  const y = b.exp(b.input("x", F3));
  assert.throws(() => serialize(b, { x: y }), /Output name "x" is taken by an input/);
  assert.throws(() => serialize(b, {}), /A model needs at least one output/);
});

Deno.test("a weight points into its file, once, and a constant lies in the model", () => {
  const b = new Builder();
  const x = b.input("x", F3);
  const at = () => b.weight("layer.weight", F3, { file: "unet/model.safetensors", offset: 1234 });
  const y = b.add(b.mul(x, at()), b.mul(at(), b.constant(float32([1, 2, 3]))));
  const [weight, constant, ...others] = graphOf(b, { y }).initializer;
  assert.deepEqual(others, []);
  assert.equal(weight?.name, "layer.weight");
  assert.deepEqual(weight?.externalData.map(({ key, value }) => [key, value]), [
    ["location", "unet/model.safetensors"],
    ["offset", "1234"],
    ["length", "12"],
  ]);
  assert.equal(weight?.rawData.length, 0);
  assert.deepEqual(
    new Float32Array(constant?.rawData.slice().buffer ?? []),
    Float32Array.of(1, 2, 3),
  );
});

Deno.test("optional outputs that nobody reads are left out", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2, 3] });
  const scale = b.fill(1, F3);
  const outputs = (...indices: number[]) => {
    const made = b.op("LayerNormalization", [x, scale]);
    const wanted = Object.fromEntries(
      made.flatMap((v, i) => indices.includes(i) ? [[`y${i}`, v]] : []),
    );
    return graphOf(b, wanted).node[0]?.output.map((name) => name === "" ? "-" : name.slice(0, 5));
  };
  assert.deepEqual(outputs(0), ["y0"]);
  assert.deepEqual(outputs(0, 2), ["y0", "-", "y2"]);
  assert.deepEqual(outputs(0, 1, 2), ["y0", "y1", "y2"]);
  const [values] = b.op("TopK", [x, b.ints([1])]);
  assert(values !== undefined);
  assert.equal(graphOf(b, { values }).node[0]?.output.length, 2);
});

Deno.test("nodes keep their names, and what is written out carries them in front", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [1, 4, 2, 2] });
  const scale = b.fill(1, { dtype: "float32", shape: [4] });
  b.exp(x);
  const y = b.scope(
    "down",
    () => b.exp(b.exp(b.groupNorm(x, { groups: 2, scale, bias: scale, epsilon: 1e-5 }))),
  );
  const made = names(graphOf(b, { y }).node);
  assert.deepEqual(made.slice(-2), ["down/Exp", "down/Exp_1"]);
  assert(made.slice(0, -2).every((name) => name.startsWith("down/GroupNormalization/")), `${made}`);
});

Deno.test("our own operators become ONNX's or ONNX Runtime's", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [1, 4, 6] });
  const y = b.straightThrough(b.stopGradient(b.silu(x)), b.attention(x, x, x, { heads: 2 }));
  const graph = graphOf(b, { y });
  const ops = graph.node.map(({ domain, opType }) => `${domain}:${opType}`);
  assert.deepEqual(ops, ["com.microsoft:MultiHeadAttention", ":Identity"]);
  const mask = b.input("mask", { dtype: "float32", shape: [4, 4] });
  const masked = graphOf(b, { y: b.attention(x, x, x, { heads: 2, mask }) }).node;
  assert(masked.every(({ opType }) => opType !== "MultiHeadAttention"));
});

Deno.test("attributes of every type are written", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [1, 1, 4, 4] });
  const y = b.call("Resize", [x, undefined, undefined, b.ints([2, 3])], {
    mode: string("cubic"),
    cubic_coeff_a: float(-0.5),
    antialias: int(1),
    axes: ints([2, 3]),
  });
  const node = graphOf(b, { y }).node[0];
  const found = node?.attribute.map(({ name, s, f, i, ints }) => [
    name,
    new TextDecoder().decode(s),
    f,
    Number(i),
    ints.map(Number),
  ]);
  assert.deepEqual(found, [
    ["mode", "cubic", 0, 0, []],
    ["cubic_coeff_a", "", -0.5, 0, []],
    ["antialias", "", 0, 1, []],
    ["axes", "", 0, 0, [2, 3]],
  ]);
  assert.deepEqual(node?.input.map((name) => name === ""), [false, true, true, false]);
});

Deno.test("a weight in place is an input with a default, read where it lies", async () => {
  const folder = await Deno.makeTempDir();
  const engine = await openEngine({ isolation: "in-process" });
  try {
    await Deno.writeFile(join(folder, "w"), new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));
    const b = new Builder();
    const x = b.input("x", { dtype: "float32", shape: [1, 2] });
    const w = b.weight("w", { dtype: "float32", shape: [2, 2] }, { file: "w", offset: 0 });
    const bytes = serialize(b, { y: b.gemm(x, w) }, { inPlace: new Set(["w"]) });
    assert.deepEqual(names(fromBinary(ModelProtoSchema, bytes).graph?.input ?? []), ["x", "w"]);
    const session = await engine.load({ bytes, weightsRoot: folder });
    assert.deepEqual(session.inputNames, ["x"]);
    assert.deepEqual(await session.run({ x: float32([1, 10], [1, 2]) }), {
      y: float32([31, 42], [1, 2]),
    });
  } finally {
    await engine.close();
    await Deno.remove(folder, { recursive: true });
  }
});
