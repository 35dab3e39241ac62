export { FLOAT32_ONLY, OP_CASES } from "./op_cases.ts";
export { onnxModel } from "./_onnx_model.ts";
