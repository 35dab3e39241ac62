import type { Tensor } from "../autodiff/mod.ts";
import { NumericalError } from "./errors.ts";

/** Throws `NumericalError` at the first NaN or infinity of a floating tensor; integers pass. */
export function assertFinite(name: string, tensor: Tensor): void {
  const at = firstNonFinite(tensor);
  if (at === undefined) return;
  const position = unravel(at.index, tensor.shape).join(", ");
  throw new NumericalError(
    `Tensor '${name}' holds ${at.value} at [${position}] of shape [${tensor.shape.join(", ")}]`,
    { tensor: name, ...at },
  );
}

function firstNonFinite(tensor: Tensor): { index: number; value: number } | undefined {
  switch (tensor.dtype) {
    case "float32":
    case "float64": {
      const { data } = tensor;
      for (let index = 0; index < data.length; index++) {
        const value = data[index] ?? 0;
        if (!Number.isFinite(value)) return { index, value };
      }
      return undefined;
    }
    case "float16":
      return firstFullExponent(tensor.data, 0x7c00);
    case "bfloat16":
      return firstFullExponent(tensor.data, 0x7f80);
    default:
      return undefined;
  }
}

/** An IEEE float is NaN or infinite exactly when all bits of its exponent are set. */
function firstFullExponent(data: Uint16Array, exponent: number) {
  for (let index = 0; index < data.length; index++) {
    const bits = data[index] ?? 0;
    if ((bits & exponent) !== exponent) continue;
    const infinite = (bits & 0x7fff) === exponent;
    return { index, value: infinite ? (bits & 0x8000 ? -Infinity : Infinity) : NaN };
  }
  return undefined;
}

function unravel(index: number, shape: readonly number[]): number[] {
  return shape.toReversed().map((size) => {
    const i = index % size;
    index = (index - i) / size;
    return i;
  }).reverse();
}
