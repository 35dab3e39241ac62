export * from "./attributes.ts";
export {
  Builder,
  type BuilderOptions,
  type ConvOptions,
  type Operand,
  type Precision,
  PRECISIONS,
  type ReduceOptions,
} from "./builder.ts";
export { constantOf } from "./constant_of.ts";
export { type GraphCost, graphCost, PRODUCT_KINDS, type ProductKind, totalFlops } from "./cost.ts";
export * from "./errors.ts";
export { activeValues, gradient, type Seed } from "./gradient.ts";
export {
  type Body,
  byteLengthOf,
  Graph,
  type Node,
  type Source,
  type Value,
  type ValueType,
  type WeightLocation,
} from "./graph.ts";
export { type StoredTensors, storedTensors, withExternalTensors } from "./import/external_data.ts";
export {
  describeModel,
  importModel,
  type ImportOptions,
  type ModelInterface,
} from "./import/import_model.ts";
export type { DeclaredValue } from "./import/_read_model.ts";
export { isOpName, type OpName } from "./infer/mod.ts";
export { type Operator, OPERATORS } from "./operators.ts";
export type { DifferentiableOp } from "./rules/mod.ts";
export { scaledGradient } from "./scaled_gradient.ts";
export { serialize, type SerializeOptions } from "./serialize.ts";
export * from "./tensor.ts";
