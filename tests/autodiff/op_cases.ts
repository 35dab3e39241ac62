import type { DifferentiableOp, OpName } from "../../autodiff/mod.ts";
import type { OpCase } from "./cases/_case.ts";
import { ATTENTION_CASES } from "./cases/attention.ts";
import { ELEMENTWISE_CASES } from "./cases/elementwise.ts";
import { LINEAR_CASES } from "./cases/linear.ts";
import { NORM_CASES } from "./cases/norm.ts";
import { REDUCE_CASES } from "./cases/reduce.ts";
import { SHAPE_CASES } from "./cases/shape.ts";
import { WINDOW_CASES } from "./cases/window.ts";

/** Uses of every differentiable operator, by operator and by what is particular about them. */
export const OP_CASES: Readonly<Record<DifferentiableOp, Readonly<Record<string, OpCase>>>> = {
  ...ELEMENTWISE_CASES,
  ...LINEAR_CASES,
  ...ATTENTION_CASES,
  ...WINDOW_CASES,
  ...NORM_CASES,
  ...REDUCE_CASES,
  ...SHAPE_CASES,
};

/**
 * Operators of which ONNX Runtime's CPU provider has no float64 kernel. They are checked in float32, and entry by
 * entry against the same function in operators that have one, or against the operator's own values where it is linear.
 */
export const FLOAT32_ONLY: ReadonlySet<OpName> = new Set<OpName>([
  "Acos",
  "Acosh",
  "Asin",
  "Asinh",
  "Atan",
  "Atanh",
  "AveragePool",
  "Celu",
  "Conv",
  "ConvTranspose",
  "Cosh",
  "Elu",
  "Erf",
  "GlobalAveragePool",
  "GlobalMaxPool",
  "HardSigmoid",
  "HardSwish",
  "InstanceNormalization",
  "LeakyRelu",
  "Mean",
  "Mish",
  "PRelu",
  "Resize",
  "Selu",
  "Sinh",
  "Softplus",
  "Softsign",
  "Tan",
  "ThresholdedRelu",
]);
