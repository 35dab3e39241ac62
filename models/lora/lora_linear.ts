import { sizeOf, type Value } from "../../autodiff/mod.ts";
import type { WeightScope } from "../weight_scope.ts";
import { mergedGemm, mergeIsCheaper, separateGemm } from "./_adapted_gemm.ts";
import type { LoraInputs } from "./lora_inputs.ts";

/**
 * A linear layer over the last axis of x, with the adapter that `lora` has for it, if any:
 * x Wᵀ + (alpha / rank) (x Aᵀ) Bᵀ + bias (Hu et al., "LoRA", eq. 3). `bias` is read where the state dict has one.
 */
export function loraLinear(
  s: WeightScope,
  x: Value,
  { out, lora }: { readonly out: number; readonly lora?: LoraInputs | undefined },
): Value {
  const { b } = s;
  const width = x.shape.at(-1) ?? 1;
  const weight = s.get("weight", [out, width]);
  const bias = s.has("bias") ? s.get("bias", [out]) : undefined;
  const found = lora?.pair(s.path());
  if (found === undefined) return b.linear(x, weight, bias);
  const pair = { ...found, a: b.cast(found.a, s.dtype), b: b.cast(found.b, s.dtype) };
  const rows = sizeOf(x.shape) / width;
  const rank = pair.a.shape[0] ?? 1;
  const { differentiable } = b;
  const isMerged = lora?.mayMerge === true &&
    mergeIsCheaper({ rows, rank, width, out, differentiable });
  const gemm = isMerged ? mergedGemm : separateGemm;
  const y = gemm(b, { x: b.reshape(x, [rows, width]), weight, bias, pair });
  return b.reshape(y, [...x.shape.slice(0, -1), out]);
}
