import { constantOf } from "../constant_of.ts";
import type { DType, Shape } from "../tensor.ts";
import { isFloat } from "../tensor.ts";
import type { InnerGraph, Operand, ValueType } from "../value_type.ts";

/** What a shape-inference function sees of a node with attributes `A`. */
export interface InferContext<A = unknown> {
  readonly inputs: readonly (Operand | undefined)[];
  readonly attributes: A;
  /** Graphs inside the node. */
  readonly bodies?: Readonly<Record<string, InnerGraph>>;
}

/** Types of all outputs of an operator; throws an Error with the reason where its inputs do not fit. */
export type Infer<A = unknown> = (context: InferContext<A>) => readonly ValueType[];

/** Input `i`, which the operator requires. */
export function required(c: InferContext, i: number): Operand {
  const v = c.inputs[i];
  if (v === undefined) throw new Error(`Input ${i} is missing`);
  return v;
}

/** Input `i`, required to be a floating tensor. */
export function requiredFloat(c: InferContext, i: number): Operand {
  const v = required(c, i);
  if (!isFloat(v.dtype)) throw new Error(`Input ${i} is ${v.dtype}, expected a floating dtype`);
  return v;
}

/** Throws unless both dtypes are equal. */
export function sameDType(a: ValueType, b: ValueType): void {
  if (a.dtype !== b.dtype) throw new Error(`Dtypes differ: ${a.dtype} and ${b.dtype}`);
}

/** An axis in 0..rank-1 from one that may count from the end. */
export function normalizeAxis(axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(a) || a < 0 || a >= rank) {
    throw new Error(`Axis ${axis} is outside -${rank}..${rank - 1}`);
  }
  return a;
}

/** NumPy broadcasting of two shapes. */
export function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const out: number[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new Error(`Shapes [${a}] and [${b}] do not broadcast`);
    }
    out.push(x === 1 ? y : x);
  }
  return out;
}

/** Dimension `i` of a shape whose rank was checked. */
export function dim(shape: Shape, i: number): number {
  const d = shape[i < 0 ? shape.length + i : i];
  if (d === undefined) throw new Error(`Shape [${shape}] has no dimension ${i}`);
  return d;
}

/** A shape, or a permutation, with its last two entries swapped. */
export function swapLast(list: readonly number[]): readonly number[] {
  return [...list.slice(0, -2), dim(list, -1), dim(list, -2)];
}

/** Whole numbers of a constant int input, or `undefined` where the input is absent. Throws where it is not constant. */
export function constantInts(v: Operand | undefined, what: string): readonly number[] | undefined {
  if (v === undefined) return undefined;
  const tensor = constantOf(v);
  if (tensor === undefined) throw new Error(`${what} must be a constant, "${v.name}" is computed`);
  return Array.from(tensor.data, Number);
}

/** Whole numbers of constant int input `i`, which the operator requires. */
export function requiredInts(c: InferContext, i: number, what: string): readonly number[] {
  const v = constantInts(c.inputs[i], what);
  if (v === undefined) throw new Error(`Input ${i} (${what}) is missing`);
  return v;
}

/** Axes of a tensor of `rank` from a constant input, normalized and sorted; `undefined` where it is absent. */
export function axesOf(
  c: InferContext,
  input: number,
  rank: number,
): readonly number[] | undefined {
  const axes = constantInts(c.inputs[input], "Axes");
  const normal = axes?.map((a) => normalizeAxis(a, rank)).sort((a, b) => a - b);
  if (new Set(normal).size !== (normal?.length ?? 0)) throw new Error(`Axes [${axes}] repeat`);
  return normal;
}

/** A value type. */
export const type = (dtype: DType, shape: Shape): ValueType => ({ dtype, shape });
