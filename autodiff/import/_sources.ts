import type { AttributeProto } from "onnx-buf";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { constantInts } from "../infer/_types.ts";
import { int64, sizeOf, tensorOver } from "../tensor.ts";
import { fold, LARGEST_FOLD } from "./_fold.ts";
import { readSparse, readTensor } from "./_read_tensor.ts";

type Attributes = readonly AttributeProto[];
type Source = (b: Builder, attributes: Attributes, inputs: readonly (Value | undefined)[]) => Value;

function constant(b: Builder, [a]: Attributes): Value {
  switch (a?.name) {
    case "value": {
      if (a.t === undefined) throw new ImportError("Attribute value is no tensor");
      const tensor = readTensor(a.t);
      if (tensor.kind === "inline") return b.constant(tensor.tensor);
      throw new ImportError("Attribute value lies in another file, which is not supported");
    }
    case "sparse_value":
      if (a.sparseTensor === undefined) {
        throw new ImportError("Attribute sparse_value is no tensor");
      }
      return b.constant(readSparse(a.sparseTensor));
    case "value_float":
      return b.scalar(a.f, "float32");
    case "value_floats":
      return b.table(a.floats, { dtype: "float32", shape: [a.floats.length] });
    case "value_int":
      return b.constant(int64(BigInt64Array.of(a.i), []));
    case "value_ints":
      return b.constant(int64(BigInt64Array.from(a.ints)));
    default:
      throw new ImportError(`Attribute ${a?.name ?? "value"} is missing or not supported`);
  }
}

function constantOfShape(
  b: Builder,
  attributes: Attributes,
  [input]: readonly (Value | undefined)[],
): Value {
  const shape = constantInts(input, "Shape") ?? [];
  const value = attributes.find(({ name }) => name === "value")?.t;
  const stored = value && readTensor(value);
  if (stored?.kind === "external") throw new ImportError("Attribute value lies in another file");
  const one = stored === undefined
    ? b.scalar(0, "float32")
    : b.constant(tensorOver({ dtype: stored.tensor.dtype, shape: [] }, stored.tensor.data));
  const folded = fold("Expand", { inputs: [one, b.ints(shape)], attributes: {} })?.[0];
  return folded === undefined ? b.expand(one, shape) : b.constant(folded);
}

function nonZero(
  b: Builder,
  _attributes: Attributes,
  [input]: readonly (Value | undefined)[],
): Value {
  const tensor = constantOf(input);
  if (tensor === undefined) throw new ImportError("Input 0 must be a constant, it is computed");
  const { shape, data } = tensor;
  const found = Array.from(data, Number).flatMap((v, i) => v === 0 ? [] : [i]);
  const steps = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const entries = steps.flatMap((step, axis) =>
    found.map((i) => Math.floor(i / step) % (shape[axis] ?? 1))
  );
  return b.constant(int64(entries, [shape.length, found.length]));
}

function range(b: Builder, _attributes: Attributes, inputs: readonly (Value | undefined)[]): Value {
  const numbers = inputs.map((v) => Number(constantOf(v)?.data[0] ?? NaN));
  const [start = NaN, limit = NaN, delta = NaN] = numbers;
  const count = Math.max(Math.ceil((limit - start) / delta), 0);
  if (!(count <= LARGEST_FOLD)) {
    throw new ImportError(`Start, limit and delta are ${numbers}, expected constants`);
  }
  const entries = Float64Array.from({ length: count }, (_, i) => start + i * delta);
  return b.table(entries, { dtype: inputs[0]?.dtype ?? "int64", shape: [count] });
}

/** Operators that make tensors out of nothing but numbers: they must be known when a model is imported. */
export const SOURCES: ReadonlyMap<string, Source> = new Map<string, Source>([
  ["Constant", constant],
  ["ConstantOfShape", constantOfShape],
  ["NonZero", nonZero],
  ["Range", range],
]);
