export * from "./attributes.ts";
export {
  Builder,
  type BuilderOptions,
  type ConvOptions,
  type Operand,
  type ReduceOptions,
} from "./builder.ts";
export * from "./errors.ts";
export { gradient, type Seed } from "./gradient.ts";
export {
  byteLengthOf,
  constantOf,
  Graph,
  type Node,
  type Source,
  type Value,
  type ValueType,
  type WeightLocation,
} from "./graph.ts";
export { isOpName, type OpName } from "./infer/mod.ts";
export { DIFFERENTIABLE_OPS, type DifferentiableOp } from "./rules/mod.ts";
export { serialize } from "./serialize.ts";
export * from "./tensor.ts";
