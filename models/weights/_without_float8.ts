import { sizeOf, type TensorOf } from "../../autodiff/mod.ts";
import type { TensorLayout } from "./_safetensors_header.ts";
import type { SafetensorsFile } from "./safetensors_file.ts";
import { WeightsError } from "./weights_error.ts";
import type { TensorReader } from "./write_safetensors.ts";

/** A weight in eight bits has its scale beside it under one of these, after its module's name. */
const SCALES = ["scale_weight", "weight_scale"];

/** What else stands beside such weights: factors for activations in eight bits, which are not computed here, and marks. */
const BESIDE = /(?:^|\.)(?:scaled_fp8|scale_input|input_scale|comfy_quant)$/;

/** Weights in forms that are not read, by names that only those have. */
const QUANTIZED: readonly (readonly [RegExp, string])[] = [
  [/\.weight\.(?:quant_state\.bitsandbytes__\w+|absmax|nested_absmax)$|\.SCB$/, "bitsandbytes"],
  [/\.qweight$/, "GPTQ, AWQ or SVDQuant"],
  [/\.weight\._(?:data|scale)$/, "optimum-quanto"],
  [/\.weight_packed$/, "compressed-tensors"],
  [/_scale_inv$/, "float8 with a scale for each block of a weight"],
  [/\.weight_scale_2$/, "float4 with two scales"],
];

/**
 * Refuses weights that were quantized to less than what a tensor's own values say, naming how. Weights in float8 with one
 * scale, or one for each row, are not refused: see `withoutFloat8`.
 */
export function refuseQuantized(
  names: readonly string[],
  { path, isFloat8 }: { readonly path: string; readonly isFloat8: (name: string) => boolean },
): void {
  const fail = (name: string, how: string): never => {
    throw new WeightsError(
      path,
      `holds "${name}", as of weights quantized by ${how}; expected weights in float32, float16, ` +
        "bfloat16, or float8 with a scale for a weight or a row",
    );
  };
  for (const name of names) {
    const other = QUANTIZED.find(([pattern]) => pattern.test(name));
    if (other !== undefined) fail(name, other[1]);
    const end = SCALES.find((scale) => name.endsWith(`.${scale}`));
    if (end !== undefined && !isFloat8(`${name.slice(0, -end.length)}weight`)) {
      fail(name, "a scale in other dtypes than float8");
    }
  }
}

/**
 * The tensors of a file that has floats in eight bits: as float16, which holds them exactly, or where a scale is beside
 * one, multiplied by it, as float32. A scale is one number, or one for each row. Scales and what else belongs to that form
 * are left out. Throws `WeightsError` where a scale has another shape.
 */
export function withoutFloat8(file: SafetensorsFile): TensorReader {
  const tensors = new Map<string, TensorLayout>();
  const scales = new Map<string, string>();
  for (const [name, { dtype, shape, float8 }] of file.tensors) {
    if (isBesideFloat8(name)) continue;
    const scale = float8 === undefined ? undefined : scaleOf(file, name);
    if (scale !== undefined) scales.set(name, scale);
    tensors.set(name, { dtype: scale === undefined ? dtype : "float32", shape });
  }
  return {
    tensors,
    read: async (name) => {
      const scale = scales.get(name);
      return scale === undefined
        ? await file.read(name)
        : times(await file.readFloat32(name), await file.readFloat32(scale));
    },
  };
}

/** Whether a tensor belongs to the form of weights in eight bits, and is gone when they are converted. */
export function isBesideFloat8(name: string): boolean {
  return BESIDE.test(name) || SCALES.some((end) => name.endsWith(`.${end}`));
}

function scaleOf({ path, tensors }: SafetensorsFile, name: string): string | undefined {
  if (!name.endsWith(".weight")) return undefined;
  const module = name.slice(0, -"weight".length);
  const scale = SCALES.map((end) => module + end).find((n) => tensors.has(n));
  const found = scale === undefined ? undefined : tensors.get(scale)?.shape;
  if (found === undefined) return undefined;
  const rows = tensors.get(name)?.shape[0];
  const isOne = sizeOf(found) === 1;
  if (isOne || (found[0] === rows && sizeOf(found) === rows)) return scale;
  throw new WeightsError(
    path,
    `"${scale}" has shape [${found}], expected one number or one for each of ${rows} rows`,
  );
}

function times(
  { dtype, shape, data }: TensorOf<"float32">,
  { data: scale }: TensorOf<"float32">,
): TensorOf<"float32"> {
  const perScale = data.length / scale.length;
  return { dtype, shape, data: data.map((v, i) => v * (scale[Math.floor(i / perScale)] ?? NaN)) };
}
