import { float32 } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";

/** Joins [1, tokens, width] tensors along the width. */
export function joinLast(parts: readonly Float32Tensor[]): Float32Tensor {
  const [first] = parts;
  if (first === undefined || parts.length === 1) return first ?? float32([]);
  const tokens = first.shape[1] ?? 1;
  const widths = parts.map((p) => p.data.length / tokens);
  const width = widths.reduce((a, b) => a + b);
  const data = new Float32Array(tokens * width);
  let offset = 0;
  for (const [i, { data: part }] of parts.entries()) {
    const w = widths[i] ?? 0;
    for (let t = 0; t < tokens; t++) {
      data.set(part.subarray(t * w, (t + 1) * w), t * width + offset);
    }
    offset += w;
  }
  return float32(data, [1, tokens, width]);
}
