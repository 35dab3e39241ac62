import {
  type Attributes,
  type Builder,
  int,
  type OpName,
  type Value,
} from "../../../autodiff/mod.ts";
import { type OpCase, opCase, type Spec } from "./_case.ts";

type Twin = (b: Builder, x: Value, axes: readonly number[], keepDims: boolean) => Value;

/** A reduction over every kind of axes, with and without keeping them. */
function reductions(
  op: OpName,
  x: Omit<Exclude<Spec, readonly number[]>, "shape"> = {},
  twin?: Twin,
) {
  const over = (
    axes: readonly number[] | undefined,
    keepDims: boolean,
    { attributes = {}, reduced = axes ?? [0, 1, 2] }: {
      attributes?: Attributes;
      reduced?: readonly number[];
    } = {},
  ) =>
    opCase(
      { x: { ...x, shape: [2, 3, 4] } },
      (b, { x }) =>
        b.call(op, axes === undefined ? [x] : [x, b.ints(axes)], {
          keepdims: int(keepDims ? 1 : 0),
          ...attributes,
        }),
      twin && { twin: (b, { x }) => twin(b, x, reduced, keepDims) },
    );
  return {
    "one axis, kept": over([1], true),
    "one axis, dropped": over([1], false),
    "last axis counted from the end": over([-1], false),
    "outer axes": over([0, 2], true),
    "axes out of order, dropped": over([2, 0], false),
    "all, kept": over(undefined, true),
    "all, dropped": over(undefined, false),
    "no axes means none": over([], true, {
      attributes: { noop_with_empty_axes: int(1) },
      reduced: [],
    }),
  };
}

const spaced = { spacing: 0.2 };
const positive = { low: 0.5, high: 2 };

const normalized = (op: OpName) => ({
  "last axis by default": opCase({ x: [2, 3, 4] }, (b, { x }) => b.call(op, [x])),
  "first axis": opCase({ x: [2, 3, 4] }, (b, { x }) => b.call(op, [x], { axis: int(0) })),
  "negative axis": opCase({ x: [2, 3, 4] }, (b, { x }) => b.call(op, [x], { axis: int(-2) })),
  "large entries": opCase(
    { x: { shape: [2, 5], low: -30, high: 30 } },
    (b, { x }) => b.call(op, [x]),
  ),
});

const cumSum = (axis: number, attributes: Attributes = {}) =>
  opCase(
    { x: [2, 3, 4] },
    (b, { x }) => b.call("CumSum", [x, b.constant(int64Scalar(axis))], attributes),
  );

const int64Scalar = (value: number) => ({
  dtype: "int64" as const,
  shape: [],
  data: BigInt64Array.of(BigInt(value)),
});

const topK = (k: number, attributes: Attributes) =>
  opCase(
    { x: { ...spaced, shape: [3, 4, 2] } },
    (b, { x }) => b.call("TopK", [x, b.ints([k])], attributes),
  );

/** Cases of reductions, normalized exponentials and orderings. */
export const REDUCE_CASES = {
  ReduceSum: reductions("ReduceSum"),
  ReduceMean: reductions("ReduceMean"),
  ReduceMax: reductions("ReduceMax", spaced),
  ReduceMin: reductions("ReduceMin", spaced),
  ReduceProd: {
    ...reductions("ReduceProd", positive),
    "with no zero, one and two": opCase(
      { x: { shape: [3, 3], values: [1.5, -2, 0.5, 0, 3, -1.25, 0, 2, 0] } },
      (b, { x }) => b.call("ReduceProd", [x, b.ints([1])]),
    ),
  },
  ReduceL1: reductions("ReduceL1", { off: [0] }),
  ReduceL2: reductions("ReduceL2"),
  ReduceSumSquare: reductions("ReduceSumSquare"),
  ReduceLogSum: reductions("ReduceLogSum", positive),
  ReduceLogSumExp: reductions("ReduceLogSumExp"),
  Softmax: normalized("Softmax"),
  LogSoftmax: normalized("LogSoftmax"),
  CumSum: {
    "first axis": cumSum(0),
    "negative axis": cumSum(-1),
    "exclusive": cumSum(1, { exclusive: int(1) }),
    "reverse": cumSum(1, { reverse: int(1) }),
    "exclusive and reverse": cumSum(2, { exclusive: int(1), reverse: int(1) }),
  },
  TopK: {
    "largest of the last axis": topK(1, {}),
    "smallest": topK(2, { axis: int(1), largest: int(0) }),
    "negative axis, all": topK(3, { axis: int(-3) }),
  },
} satisfies Record<string, Record<string, OpCase>>;
