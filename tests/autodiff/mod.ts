export { FLOAT32_ONLY, OP_CASES } from "./op_cases.ts";
