import { sizeOf, type Tensor, type TensorOf } from "../../autodiff/mod.ts";
import type { Float8 } from "./float8.ts";
import { toFloat32 } from "./half.ts";
import type { TensorLayout } from "./_safetensors_header.ts";
import { WeightsError } from "./weights_error.ts";
import type { TensorReader } from "./write_safetensors.ts";

/** An open file of weights of either kind. */
export interface StoredFile {
  readonly path: string;
  /** Of floats in eight bits `float8` says which, and `dtype` what `read` makes of them. */
  readonly tensors: ReadonlyMap<string, TensorLayout & { readonly float8?: Float8 }>;
  read(name: string): Promise<Tensor>;
  sha256(): Promise<string>;
}

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

/** A file's tensors without floats in eight bits. */
export interface WithoutFloat8 extends TensorReader {
  /** The files whose scales were multiplied in. */
  readonly scaledBy: ReadonlySet<StoredFile>;
}

/**
 * The tensors of a file of which some are floats in eight bits: those as float16, which holds them exactly, or where one
 * has a scale, multiplied by it, as float32. A scale is one number, or one for each row, and lies in any of `files`, which
 * are all the shards: in the order of names it comes just before its weight, where shards are cut. Scales and what else
 * belongs to that form are left out. Throws `WeightsError` where a scale has another shape.
 */
export function withoutFloat8(file: StoredFile, files: readonly StoredFile[]): WithoutFloat8 {
  const tensors = new Map<string, TensorLayout>();
  const scales = new Map<string, Scale>();
  const holders = [file, ...files.filter((other) => other !== file)];
  for (const [name, { dtype, shape, float8 }] of file.tensors) {
    if (isBesideFloat8(name)) continue;
    const scale = float8 === undefined ? undefined : scaleOf(holders, { name, rows: shape[0] });
    if (scale !== undefined) scales.set(name, scale);
    tensors.set(name, { dtype: scale === undefined ? dtype : "float32", shape });
  }
  return {
    tensors,
    scaledBy: new Set([...scales.values()].map(({ holder }) => holder)),
    read: async (name) => {
      const scale = scales.get(name);
      return scale === undefined
        ? await file.read(name)
        : times(await readFloat32(file, name), await readFloat32(scale.holder, scale.name));
    },
  };
}

/** Whether a tensor belongs to the form of weights in eight bits, and is gone when they are converted. */
export function isBesideFloat8(name: string): boolean {
  return BESIDE.test(name) || SCALES.some((end) => name.endsWith(`.${end}`));
}

interface Scale {
  readonly holder: StoredFile;
  readonly name: string;
}

function scaleOf(
  holders: readonly StoredFile[],
  { name: weight, rows }: { readonly name: string; readonly rows: number | undefined },
): Scale | undefined {
  if (!weight.endsWith(".weight")) return undefined;
  const module = weight.slice(0, -"weight".length);
  for (const holder of holders) {
    for (const name of SCALES.map((end) => module + end)) {
      const shape = holder.tensors.get(name)?.shape;
      if (shape === undefined) continue;
      const isOne = sizeOf(shape) === 1;
      if (isOne || (shape[0] === rows && sizeOf(shape) === rows)) return { holder, name };
      throw new WeightsError(
        holder.path,
        `"${name}" has shape [${shape}], expected one number or one for each of ${rows} rows`,
      );
    }
  }
  return undefined;
}

async function readFloat32(file: StoredFile, name: string): Promise<TensorOf<"float32">> {
  const tensor = await file.read(name);
  try {
    return toFloat32(tensor);
  } catch (cause) {
    throw new WeightsError(
      file.path,
      `tensor "${name}" has dtype ${tensor.dtype}, expected a float dtype`,
      { cause },
    );
  }
}

function times(
  { dtype, shape, data }: TensorOf<"float32">,
  { data: scale }: TensorOf<"float32">,
): TensorOf<"float32"> {
  const perScale = data.length / scale.length;
  return { dtype, shape, data: data.map((v, i) => v * (scale[Math.floor(i / perScale)] ?? NaN)) };
}
