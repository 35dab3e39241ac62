import type { OpName } from "./infer/mod.ts";

/** Operators of ONNX Runtime's own domain, and their names there. */
export const CONTRIB: Readonly<Partial<Record<OpName, string>>> = {
  QuickGelu: "QuickGelu",
  FusedMatMul: "FusedMatMul",
  Attention: "MultiHeadAttention",
};
