export { type Attribute, type Attributes, float, int, ints, string } from "./attributes.ts";
export {
  Builder,
  type BuilderOptions,
  type ConvOptions,
  type Operand,
  type ReduceOptions,
} from "./builder.ts";
export { constantOf } from "./constant_of.ts";
export { CONTRIB } from "./domains.ts";
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
export { IMPORTED_OPERATORS, type ImportedOperator } from "./import/imported_operators.ts";
export {
  describeModel,
  importModel,
  type ImportOptions,
  type ModelInterface,
} from "./import/import_model.ts";
export type { DeclaredValue } from "./import/_read_model.ts";
export { attributesOf, type AttributeValues, isOpName, type OpName } from "./infer/mod.ts";
export * from "./normalize.ts";
export { type Operator, OPERATORS } from "./operators.ts";
export { onnxOfDType } from "./onnx_dtype.ts";
export { quickGeluGradient } from "./quick_gelu.ts";
export { nodesNeeded, readsOf } from "./reads.ts";
export type { DifferentiableOp } from "./rules/mod.ts";
export { belongsTo, checkStage, type GradientOp, type Stage } from "./stages.ts";
export * from "./tensor.ts";
