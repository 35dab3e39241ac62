import type { Tensors } from "../../runtime/mod.ts";
import type { Parameters } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";

/** Gradients of LoRA tensors as a network gave them, all in float32. */
export function parametersOf(gradients: Tensors): Parameters {
  return Object.fromEntries(
    Object.entries(gradients).map(([name, t]) => [name, asFloat32(`gradient of ${name}`, t)]),
  );
}
