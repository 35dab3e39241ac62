import type { Builder, Value } from "../../autodiff/mod.ts";

/** Mean and standard deviation per channel that every CLIP-family model was trained with. */
export const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073] as const;
export const CLIP_STD = [0.26862954, 0.26130258, 0.27577711] as const;

/** (x - mean) / std per channel of x [B, 3, h, w]. */
export function clipNormalise(b: Builder, x: Value): Value {
  const wide = (values: readonly number[]) =>
    b.table(values, { dtype: x.dtype, shape: [1, 3, 1, 1] });
  return b.div(b.sub(x, wide(CLIP_MEAN)), wide(CLIP_STD));
}
