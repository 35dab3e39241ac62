import type { OpName } from "../infer/mod.ts";

/**
 * Where no gradient flows, by definition and not for want of a rule: operators that are piecewise constant or answer
 * with indices and truth values ("all"), and inputs that only say how to move or choose elements.
 */
export const STOP_EDGES = {
  StopGradient: "all",
  Sign: "all",
  Floor: "all",
  Ceil: "all",
  Round: "all",
  ArgMax: "all",
  ArgMin: "all",
  Shape: "all",
  Size: "all",
  Equal: "all",
  Greater: "all",
  GreaterOrEqual: "all",
  Less: "all",
  LessOrEqual: "all",
  And: "all",
  Or: "all",
  Xor: "all",
  Not: "all",
  IsNaN: "all",
  IsInf: "all",
  /** The value passed forward; the gradient goes to input 0. */
  StraightThrough: [1],
  Where: [0],
  Reshape: [1],
  Expand: [1],
  Tile: [1],
  Slice: [1, 2, 3, 4],
  Split: [1],
  Squeeze: [1],
  Unsqueeze: [1],
  Gather: [1],
  GatherElements: [1],
  GatherND: [1],
  ScatterElements: [1],
  ScatterND: [1],
  Pad: [1, 3],
  Resize: [1, 2, 3],
  TopK: [1],
  CumSum: [1],
  Trilu: [1],
  Dropout: [1, 2],
  ReduceSum: [1],
  ReduceMean: [1],
  ReduceMax: [1],
  ReduceMin: [1],
  ReduceProd: [1],
  ReduceL1: [1],
  ReduceL2: [1],
  ReduceSumSquare: [1],
  ReduceLogSum: [1],
  ReduceLogSumExp: [1],
} as const satisfies Partial<Record<OpName, "all" | readonly number[]>>;

/** Operators through which no gradient flows at all: they need no rule. */
export type StopOp = {
  [K in keyof typeof STOP_EDGES]: (typeof STOP_EDGES)[K] extends "all" ? K : never;
}[keyof typeof STOP_EDGES];

const TABLE: Partial<Record<OpName, "all" | readonly number[]>> = STOP_EDGES;

/** Inputs of `op` through which no gradient flows. */
export function stopsOf(op: OpName): "all" | readonly number[] {
  return TABLE[op] ?? [];
}

/** True where no gradient flows through input `i` of `op`. */
export function isStopEdge(op: OpName, i: number): boolean {
  const stops = stopsOf(op);
  return stops === "all" || stops.includes(i);
}
