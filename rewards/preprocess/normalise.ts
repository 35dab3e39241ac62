import type { Builder, Value } from "../../autodiff/mod.ts";
import type { ImagePreprocessing } from "../../models/clip/mod.ts";

/** (scale x - mean) / std per channel of x [B, 3, h, w], pixels in [0, 1]. */
export function normalise(
  b: Builder,
  x: Value,
  { scale, mean, std }: Pick<ImagePreprocessing, "scale" | "mean" | "std">,
): Value {
  const wide = (values: readonly number[]) =>
    b.table(values, { dtype: x.dtype, shape: [1, 3, 1, 1] });
  const scaled = scale === 1 ? x : b.mul(x, scale);
  return b.div(b.sub(scaled, wide(mean)), wide(std));
}
