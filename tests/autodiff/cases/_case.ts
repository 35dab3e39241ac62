import assert from "node:assert/strict";
import {
  Builder,
  castNumber,
  gradient,
  type OpName,
  type Shape,
  sizeOf,
  type Tensor,
} from "../../../autodiff/mod.ts";
import { PLAIN_POLICY, type Policy, serialize } from "../../../compile/mod.ts";
import {
  type BuildFunction,
  checkGradient,
  type GradientReport,
  mapValues,
  numbersOf,
  uniform,
} from "../../../compile/testing/mod.ts";
import { evaluate } from "../_evaluate.ts";

/** Random floating entries of an input. */
export interface Entries {
  readonly shape: Shape;
  /** Range; [-1, 1) by default. */
  readonly low?: number;
  readonly high?: number;
  /** Points no entry comes near: kinks of the operator. */
  readonly off?: readonly number[];
  /** Entries are a random order of numbers so far apart, so that no step changes which is the largest. */
  readonly spacing?: number;
  /** Entries given one by one. */
  readonly values?: readonly number[];
}

/** An input: random entries (a shape alone: in [-1, 1)), or a given tensor of indices or truth values. */
export type Spec = Shape | Entries | Tensor;

/** One use of an operator, and how its gradient is verified. */
export interface OpCase {
  /** True where the operator is verified in float32, against the same function in other operators or its own values. */
  readonly isFloat32: boolean;
  /** Checks outputs' types, the gradient, every choice of inputs, and float32 against float64. */
  verify(): Promise<void>;
  /** The forward graph of the operator itself in a dtype, serialized. */
  model(dtype: "float32" | "float64"): Uint8Array;
  /** Operators the forward graph is made of. */
  ops(): readonly OpName[];
}

/** What a case may say besides inputs and function. */
export interface CaseOptions<K extends string> {
  /** Inputs to differentiate; every floating one by default. */
  readonly wrt?: readonly NoInfer<K>[];
  /** The same function in operators that have float64 kernels, for an operator that has none. */
  readonly twin?: BuildFunction<K>;
  /** The function is linear in its one input x: instead of a twin, the whole Jacobian is compared with its values. */
  readonly linear?: boolean;
  readonly policy?: Partial<Policy>;
}

/** Distance kept from kinks: more than twice the float32 step. */
const MARGIN = 0.06;

/** Largest difference of float32 from float64 results, relative to the largest entry or to 0.1. */
const FLOAT32_ERROR = 5e-6;

/** A case from its inputs and the function that uses the operator. */
export function opCase<K extends string>(
  specs: Readonly<Record<K, Spec>>,
  build: BuildFunction<K>,
  { wrt, twin, linear = false, policy }: CaseOptions<K> = {},
): OpCase {
  const inputsIn = (dtype: "float32" | "float64") => {
    const next = uniform(7);
    return mapValues(specs, (spec: Spec) => tensorOf(spec, dtype, next));
  };
  const graph = (dtype: "float32" | "float64") => {
    const b = new Builder();
    const x = mapValues(inputsIn(dtype), (t: Tensor, name) => b.input(name, t));
    return { b, y: [build(b, x)].flat() };
  };
  const check = { evaluate, wrt, policy };
  return {
    isFloat32: linear || twin !== undefined,
    model: (dtype) => {
      const { b, y } = graph(dtype);
      return serialize(b, Object.fromEntries(y.map((v, i) => [`y${i}`, v])));
    },
    ops: () => graph("float32").b.nodes.map(({ op }) => op),
    async verify() {
      const inputs = inputsIn("float32");
      if (linear) return await compareJacobian(build, inputs);
      if (twin !== undefined) await checkGradient({ ...check, build, inputs });
      const exact = await checkGradient({
        ...check,
        build: twin ?? build,
        inputs: inputsIn("float64"),
      });
      await compareFloat32(build, inputs, { exact, policy });
    },
  };
}

/** Compares every entry of the Jacobian: its columns are values at unit inputs, its rows gradients of unit cotangents. */
async function compareJacobian<K extends string>(
  build: BuildFunction<K>,
  inputs: Readonly<Record<K, Tensor>>,
): Promise<void> {
  const b = new Builder();
  const x = mapValues(inputs, (t: Tensor, name) => b.input(name, t));
  const [y] = [build(b, x)].flat();
  const [input] = b.inputs;
  assert(y !== undefined && input !== undefined);
  const v = b.input("v", y);
  const [dx] = gradient(b, [{ value: y, cotangent: v }], [input]);
  assert(dx !== undefined);
  const unit = (type: { readonly shape: Shape }, at: number) =>
    castNumber(Float64Array.from({ length: sizeOf(type.shape) }, (_, i) => i === at ? 1 : 0), {
      dtype: "float32",
      shape: type.shape,
    });
  const shapes = [[...y.shape], [...input.shape]];
  const [n, m] = [sizeOf(input.shape), sizeOf(y.shape)];
  const runs = await evaluate(
    serialize(b, { y, dx }),
    Array.from(
      { length: Math.max(n, m) },
      (_, i) => ({ [input.name]: unit(input, i), v: unit(y, i) }),
    ),
  );
  const byValues = new Float64Array(n * m);
  const byGradients = new Float64Array(n * m);
  for (const [k, { y, dx }] of runs.entries()) {
    assert(y !== undefined && dx !== undefined);
    assert.deepEqual([[...y.shape], [...dx.shape]], shapes);
    if (k < n) numbersOf(y).forEach((value, o) => byValues[o * n + k] = value);
    if (k < m) numbersOf(dx).forEach((value, i) => byGradients[k * n + i] = value);
  }
  assertClose(byGradients, byValues, "Jacobian");
}

/** Runs the operator in float32, with gradients for every choice of inputs, and compares all with float64. */
async function compareFloat32<K extends string>(
  build: BuildFunction<K>,
  inputs: Readonly<Record<K, Tensor>>,
  { exact, policy }: {
    readonly exact: GradientReport;
    readonly policy: Partial<Policy> | undefined;
  },
): Promise<void> {
  const b = new Builder({ differentiable: true });
  const x = mapValues(inputs, (t: Tensor, name) => b.input(name, t));
  const values: Readonly<Record<string, (typeof x)[K]>> = x;
  const y = [build(b, x)].flat();
  const seeds = y.flatMap((value, i) => {
    const v = exact.cotangents[i];
    return v ? [{ value, cotangent: b.table(numbersOf(v), value) }] : [];
  });
  const expected = new Map(y.map((v, i) => [`y${i}`, { type: v, exact: exact.outputs[i] }]));
  const results = new Map(y.map((v, i) => [`y${i}`, v]));
  for (const names of subsets(Object.keys(exact.gradients))) {
    const wrt = names.map((name) => values[name]).filter((v) => v !== undefined);
    for (const [i, g] of gradient(b, seeds, wrt).entries()) {
      const name = names[i] ?? "";
      const key = `d.${name} of ${names}`;
      results.set(key, g);
      expected.set(key, { type: g, exact: exact.gradients[name] });
    }
  }
  const [found] = await evaluate(
    serialize(b, Object.fromEntries(results), { policy: { ...PLAIN_POLICY, ...policy } }),
    [inputs],
  );
  for (const [key, { type, exact: reference }] of expected) {
    const tensor = found?.[key];
    assert(tensor !== undefined && reference !== undefined, key);
    assert.deepEqual([tensor.dtype, [...tensor.shape]], [type.dtype, [...type.shape]], key);
    assert.deepEqual([...reference.shape], [...tensor.shape], `${key} in float64`);
    assertClose(numbersOf(tensor), numbersOf(reference), key);
  }
}

/** Asserts that no entry is off by more than the float32 error times the largest. */
export function assertClose(found: Float64Array, expected: Float64Array, what: string): void {
  const scale = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0.1);
  const worst = found.reduce((max, v, i) => Math.max(max, Math.abs(v - (expected[i] ?? NaN))), 0);
  const off = found.findIndex((v, i) =>
    !(Math.abs(v - (expected[i] ?? NaN)) <= FLOAT32_ERROR * scale)
  );
  assert.equal(
    off,
    -1,
    `${what}: entry ${off} is ${found[off]}, expected ${expected[off]} (${worst})`,
  );
}

/** Every choice of names; of more than three only each alone and all together. */
function subsets(names: readonly string[]): readonly (readonly string[])[] {
  if (names.length > 3) return [...names.map((name) => [name]), names];
  const all = names.reduce<readonly (readonly string[])[]>(
    (found, name) => [...found, ...found.map((set) => [...set, name])],
    [[]],
  );
  return all.filter((set) => set.length > 0);
}

function tensorOf(spec: Spec, dtype: "float32" | "float64", next: () => number): Tensor {
  if ("dtype" in spec) return spec;
  const { shape, low = -1, high = 1, off = [], spacing, values: given }: Entries = "shape" in spec
    ? spec
    : { shape: spec };
  const n = sizeOf(shape);
  const order = Array.from({ length: n }, (_, i) => ({ i, key: next() }))
    .sort((a, b) => a.key - b.key);
  const values = given ?? Float64Array.from({ length: n }, (_, k) => {
    const value = spacing === undefined
      ? low + (high - low) * next()
      : ((order[k]?.i ?? 0) - n / 2 + 0.25) * spacing;
    const kink = off.find((at) => Math.abs(value - at) < MARGIN);
    return kink === undefined ? value : kink + (value < kink ? -MARGIN : MARGIN);
  });
  // The same numbers in both dtypes.
  return castNumber(Float32Array.from(values), { dtype, shape });
}
