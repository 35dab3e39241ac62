import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { DType } from "../../autodiff/mod.ts";
import { toFloat32 } from "./half.ts";
import { cachedSha256 } from "./cached_sha256.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors_file.ts";
import { openTorchFile, type TorchFileOptions } from "./torch_file.ts";
import { WeightsError } from "./weights_error.ts";
import { withoutFloat8 } from "./_without_float8.ts";
import { copyToSafetensors, type TensorReader } from "./write_safetensors.ts";

/** Options of `cachedAsSafetensors`. */
export interface CachedOptions extends TorchFileOptions {
  /**
   * Keep float16 and bfloat16 as float32: twice the disk, but sessions then map the weights and share them, where each
   * would convert them into memory of its own. Default false.
   */
  readonly asFloat32?: boolean;
}

/**
 * The path of a safetensors file with the tensors of a PyTorch file. It is written once into `cacheDir`, under the
 * sha256 of the source and the options taken, one tensor in memory at a time; later calls find it there. Its metadata
 * names the source's digest, file name and key. Throws `WeightsError` as `openTorchFile` does.
 */
export async function cachedAsSafetensors(
  path: string,
  cacheDir: string,
  { asFloat32 = false, ...options }: CachedOptions = {},
): Promise<string> {
  const source = openTorchFile(path, options);
  const { key } = options;
  return await cachedCopy(source, cacheDir, {
    source,
    asFloat32,
    ...(key !== undefined && { key }),
  });
}

/**
 * The path of a safetensors file with the tensors of another one whose floats have eight bits, in the dtypes that
 * `withoutFloat8` gives them. It is kept as that of a PyTorch file.
 */
export async function cachedWithoutFloat8(
  file: SafetensorsFile,
  cacheDir: string,
  { asFloat32 = false }: Pick<CachedOptions, "asFloat32"> = {},
): Promise<string> {
  return await cachedCopy(file, cacheDir, { source: withoutFloat8(file), asFloat32 });
}

async function cachedCopy(
  file: { readonly path: string; sha256(): Promise<string> },
  cacheDir: string,
  { source, asFloat32, key }: {
    readonly source: TensorReader;
    readonly asFloat32: boolean;
    readonly key?: string;
  },
): Promise<string> {
  const digest = await cachedSha256(file, cacheDir);
  const ofKey = key === undefined
    ? ""
    : `-${createHash("sha256").update(key).digest("hex").slice(0, 8)}`;
  const suffix = asFloat32 ? `${ofKey}-float32` : ofKey;
  const cached = join(resolve(cacheDir), `${digest}${suffix}.safetensors`);
  // What was damaged in the cache is made anew.
  if (existsSync(cached) && isWhole(cached)) return cached;
  mkdirSync(cacheDir, { recursive: true });
  await copyToSafetensors(cached, asFloat32 ? widened(source) : source, {
    format: "pt",
    source_name: basename(file.path),
    source_sha256: digest,
    ...(key === undefined ? {} : { source_key: key }),
  });
  return cached;
}

function isWhole(path: string): boolean {
  try {
    openSafetensors(path);
    return true;
  } catch (error) {
    if (error instanceof WeightsError) return false;
    throw error;
  }
}

/** The same tensors, halves as float32. */
function widened(source: TensorReader): TensorReader {
  const isHalf = (dtype: DType) => dtype === "float16" || dtype === "bfloat16";
  return {
    tensors: new Map(
      [...source.tensors].map(([name, { dtype, shape }]) => [
        name,
        { dtype: isHalf(dtype) ? "float32" : dtype, shape },
      ]),
    ),
    read: async (name) => {
      const tensor = await source.read(name);
      return isHalf(tensor.dtype) ? toFloat32(tensor) : tensor;
    },
  };
}
