import type { Images } from "../../../rewards/mod.ts";

/** Images of one value each, [B, 3, height, width]. */
export function flatImages(values: readonly number[], height = 2, width = 2): Images {
  const data = Float32Array.from(
    values.flatMap((value) => Array<number>(3 * height * width).fill(value)),
  );
  return { dtype: "float32", shape: [values.length, 3, height, width], data };
}
