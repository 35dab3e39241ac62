export { evaluate } from "./_evaluate.ts";
export { FLOAT32_ONLY, OP_CASES } from "./op_cases.ts";
export { onnxModel } from "./_onnx_model.ts";
