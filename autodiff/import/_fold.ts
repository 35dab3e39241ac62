import type { Attributes } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import type { Value, ValueType } from "../graph.ts";
import { type InferContext, required } from "../infer/_types.ts";
import {
  attributesOf,
  type AttributeValues,
  dim,
  normalizeAxis,
  type OpName,
  SPECS,
} from "../infer/mod.ts";
import { reducedAxes } from "../infer/reduce.ts";
import { permutation, sliceRanges } from "../infer/shape.ts";
import { castNumber, isFloat, type Shape, sizeOf, type Tensor } from "../tensor.ts";

/** Entries of the largest tensor that is computed while a model is imported. What is larger stays a node. */
export const LARGEST_FOLD = 2 ** 14;

const LARGEST_INT64 = 2n ** 63n - 1n;

/** A tensor from numbers. int64 saturates: the largest one stands for "to the end" and is not a JavaScript number. */
export function fromNumbers(values: readonly number[], type: ValueType): Tensor {
  if (type.dtype !== "int64") return castNumber(values, type);
  const data = BigInt64Array.from(values, (v) => v >= 2 ** 63 ? LARGEST_INT64 : BigInt(v));
  return { dtype: "int64", shape: type.shape, data };
}

/**
 * Computes an operator of constant inputs, as shape arithmetic needs: exactly on whole numbers, in the output's
 * dtype otherwise. Returns `undefined` where an input is not constant, or the operator is none of these, or too large.
 */
export function fold<Op extends OpName>(
  op: Op,
  c: InferContext<Attributes>,
): readonly Tensor[] | undefined {
  if (op === "Shape" || op === "Size") return [shapeOf(op, c)];
  const evaluate: Evaluate<AttributeValues[Op]> | undefined = EVALUATE[op];
  const tensors = c.inputs.map(constantOf);
  if (evaluate === undefined || c.inputs.some((v, i) => v !== undefined && isOpaque(tensors[i]))) {
    return undefined;
  }
  const types = SPECS[op].infer(c);
  if (types.some((type) => sizeOf(type.shape) > LARGEST_FOLD)) return undefined;
  const values = tensors.map((t) => t === undefined ? [] : Array.from(t.data, Number));
  const typed = { inputs: c.inputs, attributes: attributesOf(op, c.attributes) };
  return evaluate(typed, values, types).map((entries, i) => {
    const type = types[i];
    if (type === undefined) throw new RangeError(`${op} has ${types.length} outputs`);
    return fromNumbers(entries, type);
  });
}

/**
 * A value that other operators were taken for, computed where all that it depends on is constant: exporters and quantizers
 * compute sizes in floats too. Returns the value itself where it is not.
 */
export function folded(b: Builder, value: Value): Value {
  const tensor = tensorOf(value, { known: new Map(), depth: 0 });
  return tensor === undefined || value.source.kind === "constant" ? value : b.constant(tensor);
}

/** Operators in a row that are computed: recurrent layers have thousands. */
const DEEPEST_FOLD = 256;

function tensorOf(
  value: Value,
  { known, depth }: { readonly known: Map<Value, Tensor | undefined>; readonly depth: number },
): Tensor | undefined {
  if (value.source.kind !== "node") return constantOf(value);
  if (depth > DEEPEST_FOLD) return undefined;
  if (known.has(value)) return known.get(value);
  const { node: { op, inputs, attributes }, index } = value.source;
  const constants: (Value | undefined)[] = [];
  for (const input of inputs) {
    const tensor = input === undefined ? undefined : tensorOf(input, { known, depth: depth + 1 });
    if (input !== undefined && tensor === undefined) {
      known.set(value, undefined);
      return undefined;
    }
    constants.push(
      input === undefined || tensor === undefined
        ? undefined
        : { ...input, source: { kind: "constant", tensor } },
    );
  }
  const found = fold(op, { inputs: constants, attributes })?.[index];
  known.set(value, found);
  return found;
}

/** Halves are held as bits: what depends on them is left to the runtime. */
function isOpaque(t: Tensor | undefined): boolean {
  return t === undefined || t.dtype === "float16" || t.dtype === "bfloat16" ||
    t.data.length > LARGEST_FOLD;
}

function shapeOf(op: "Shape" | "Size", c: InferContext<Attributes>): Tensor {
  const { shape } = required(c, 0);
  const [type] = SPECS[op].infer(c);
  const { start, end } = attributesOf("Shape", c.attributes);
  const entries = op === "Size" ? [sizeOf(shape)] : shape.slice(start, end);
  return fromNumbers(entries, { dtype: "int64", shape: type?.shape ?? [] });
}

type Numbers = readonly number[];

/** Entries of every output from the entries of every input and the outputs' types. */
type Evaluate<A = unknown> = (
  c: InferContext<A>,
  values: readonly Numbers[],
  types: readonly ValueType[],
) => readonly Numbers[];

/** Coordinates of all entries of a shape, row by row. */
function* coordinates(shape: Shape): Generator<readonly number[]> {
  const at = shape.map(() => 0);
  for (let n = sizeOf(shape); n > 0; n--) {
    yield at;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis] = (at[axis] ?? 0) + 1;
      if (dim(at, axis) < dim(shape, axis)) break;
      at[axis] = 0;
    }
  }
}

/** Position of an entry in row order; coordinates along axes of size 1 do not count, nor do leading ones too many. */
function position(shape: Shape, at: readonly number[]): number {
  const skip = at.length - shape.length;
  return shape.reduce((p, size, axis) => p * size + (size === 1 ? 0 : dim(at, axis + skip)), 0);
}

function entry(values: Numbers | undefined, at: number): number {
  const v = values?.[at];
  if (v === undefined) throw new RangeError(`Index ${at} is outside`);
  return v;
}

/** Entry by entry, with broadcasting. `whole` says that the result is an integer. */
function each(f: (args: Numbers, whole: boolean) => number): Evaluate {
  return (c, values, [type]) => {
    if (type === undefined) return [];
    const whole = !isFloat(type.dtype);
    const shapes = c.inputs.map((v) => v?.shape ?? []);
    const entries: number[] = [];
    for (const at of coordinates(type.shape)) {
      entries.push(f(values.map((v, i) => entry(v, position(shapes[i] ?? [], at))), whole));
    }
    return [entries];
  };
}

const binary = (f: (a: number, b: number, whole: boolean) => number): Evaluate =>
  each(([a = NaN, b = NaN], whole) => f(a, b, whole));

const unary = (f: (a: number, whole: boolean) => number): Evaluate =>
  each(([a = NaN], whole) => f(a, whole));

/** Entries of the output from where each comes from in the first input. */
const moved = <A>(
  source: (c: InferContext<A>, values: readonly Numbers[]) => (at: readonly number[]) => number,
): Evaluate<A> =>
(c, values, [type]) => {
  if (type === undefined) return [];
  const from = source(c, values);
  return [Array.from(coordinates(type.shape), (at) => entry(values[0], from(at)))];
};

const same: Evaluate = (_c, [x = []]) => [x];

const reduction = (
  f: (a: number, b: number) => number,
): Evaluate<AttributeValues["ReduceSum"]> =>
(c, [x = []], [type]) => {
  const { shape } = required(c, 0);
  const axes = reducedAxes(c);
  const kept = shape.map((d, i) => axes.includes(i) ? 1 : d);
  const entries = new Array<number | undefined>(sizeOf(type?.shape ?? [])).fill(undefined);
  let i = 0;
  for (const at of coordinates(shape)) {
    const to = position(kept, at);
    const before = entries[to];
    const value = entry(x, i++);
    entries[to] = before === undefined ? value : f(before, value);
  }
  return [entries.map((v) => v ?? NaN)];
};

const axisOf = (c: InferContext<{ readonly axis: number }>): number =>
  normalizeAxis(c.attributes.axis, required(c, 0).shape.length);

const replaced = (at: readonly number[], axis: number, value: number): number[] =>
  at.map((v, i) => i === axis ? value : v);

const concat: Evaluate<AttributeValues["Concat"]> = (c, values, [type]) => {
  const axis = axisOf(c);
  const parts = c.inputs.map((_, i) => required(c, i).shape);
  return [Array.from(coordinates(type?.shape ?? []), (at) => {
    let [part, along] = [0, dim(at, axis)];
    while (along >= dim(parts[part] ?? [], axis)) along -= dim(parts[part++] ?? [], axis);
    return entry(values[part], position(parts[part] ?? [], replaced(at, axis, along)));
  })];
};

const split: Evaluate<AttributeValues["Split"]> = (c, values, types) => {
  const axis = axisOf(c);
  const { shape } = required(c, 0);
  let start = 0;
  return types.map((type) => {
    const first = start;
    start += dim(type.shape, axis);
    return Array.from(
      coordinates(type.shape),
      (at) => entry(values[0], position(shape, replaced(at, axis, dim(at, axis) + first))),
    );
  });
};

const gather: Evaluate<AttributeValues["Gather"]> = moved((c, values) => {
  const axis = axisOf(c);
  const [{ shape }, indices] = [required(c, 0), required(c, 1).shape];
  return (at) => {
    const index = entry(values[1], position(indices, at.slice(axis, axis + indices.length)));
    const size = dim(shape, axis);
    const full = [...at.slice(0, axis), index < 0 ? index + size : index];
    return position(shape, [...full, ...at.slice(axis + indices.length)]);
  };
});

const slice = moved((c) => {
  const { shape } = required(c, 0);
  const ranges = sliceRanges(c);
  return (at) =>
    position(
      shape,
      ranges.reduce(
        (from, { axis, start, step }) => replaced(from, axis, start + step * dim(at, axis)),
        [...at],
      ),
    );
});

const transpose: Evaluate<AttributeValues["Transpose"]> = moved((c) => {
  const { shape } = required(c, 0);
  const perm = permutation(c);
  return (at) => position(shape, shape.map((_, i) => dim(at, perm.indexOf(i))));
});

/** Of the divisor's sign, or of the dividend's where the operator asks for C's fmod. */
const modulo: Evaluate<AttributeValues["Mod"]> = (c, ...rest) =>
  binary((a, b) => c.attributes.fmod ? a % b : a - b * Math.floor(a / b))(
    c,
    ...rest,
  );

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const clip: Evaluate = (_c, [x = [], [low = -Infinity] = [], [high = Infinity] = []]) => [
  x.map((v) => Math.min(Math.max(v, low), high)),
];

const tile = moved((c) => {
  const { shape } = required(c, 0);
  return (at) => position(shape, at.map((i, axis) => i % dim(shape, axis)));
});

/** Sums along an axis up to each entry. */
const cumulative: Evaluate<AttributeValues["CumSum"]> = (c, [x = [], [axis = 0] = []]) => {
  const { shape } = required(c, 0);
  const along = normalizeAxis(axis, shape.length);
  const { exclusive, reverse } = c.attributes;
  return [Array.from(coordinates(shape), (at) => {
    const here = dim(at, along);
    let sum = 0;
    for (let i = 0; i < dim(shape, along); i++) {
      const counts = i === here ? !exclusive : reverse ? i > here : i < here;
      if (counts) sum += entry(x, position(shape, replaced(at, along, i)));
    }
    return sum;
  })];
};

const mean: Evaluate<AttributeValues["ReduceMean"]> = (c, values, types) => {
  const count = sizeOf(required(c, 0).shape) / sizeOf(types[0]?.shape ?? []);
  return reduction((a, b) => a + b)(c, values, types).map((sums) => sums.map((v) => v / count));
};

const EVALUATE: { readonly [Op in OpName]?: Evaluate<AttributeValues[Op]> } = {
  Identity: same,
  StopGradient: same,
  // Quantizers round sizes that an exporter computes in floats, too.
  StraightThrough: (_c, [, forward = []]) => [forward],
  Reshape: same,
  Flatten: same,
  Squeeze: same,
  Unsqueeze: same,
  Expand: moved((c) => (at) => position(required(c, 0).shape, at)),
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  Cast: unary((a, whole) => whole ? Math.trunc(a) : a),
  Clip: clip,
  Tile: tile,
  CumSum: cumulative,
  Neg: unary((a) => -a),
  Sign: unary(Math.sign),
  Round: unary(roundHalfEven),
  Reciprocal: unary((a) => 1 / a),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Floor: unary(Math.floor),
  Ceil: unary(Math.ceil),
  Not: unary((a) => a === 0 ? 1 : 0),
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: binary((a, b, whole) => whole ? Math.trunc(a / b) : a / b),
  Mod: modulo,
  Pow: binary((a, b) => a ** b),
  Min: each((args) => Math.min(...args)),
  Max: each((args) => Math.max(...args)),
  Equal: binary((a, b) => Number(a === b)),
  Greater: binary((a, b) => Number(a > b)),
  GreaterOrEqual: binary((a, b) => Number(a >= b)),
  Less: binary((a, b) => Number(a < b)),
  LessOrEqual: binary((a, b) => Number(a <= b)),
  And: binary((a, b) => a * b),
  Or: binary((a, b) => Math.max(a, b)),
  Where: each(([test, x = NaN, y = NaN]) => test === 0 ? y : x),
  ReduceSum: reduction((a, b) => a + b),
  ReduceMean: mean,
  ReduceProd: reduction((a, b) => a * b),
  ReduceMin: reduction(Math.min),
  ReduceMax: reduction(Math.max),
};
