import type { Shape, ValueType } from "../../autodiff/mod.ts";

/** A float32 type. */
export function floatType(...shape: Shape): ValueType {
  return { dtype: "float32", shape };
}

/** Rows and columns of patches in latents. Throws `RangeError` where patches do not tile them. */
export function patchGrid(
  { height, width }: { readonly height: number; readonly width: number },
  patch: number,
): { readonly rows: number; readonly columns: number } {
  if (height % patch !== 0 || width % patch !== 0) {
    throw new RangeError(`Latents are ${height}x${width}, expected multiples of ${patch}`);
  }
  return { rows: height / patch, columns: width / patch };
}
