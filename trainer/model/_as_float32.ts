import type { Tensor } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";

/** An output that must be there in float32. */
export function asFloat32(name: string, tensor: Tensor | undefined): Float32Tensor {
  if (tensor?.dtype === "float32") return tensor;
  throw new TypeError(`Output "${name}" is ${tensor?.dtype ?? "missing"}, expected float32`);
}
