import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { DType } from "../../autodiff/mod.ts";
import { toFloat32 } from "./half.ts";
import { cachedSha256 } from "./cached_sha256.ts";
import { openSafetensors, SafetensorsFile } from "./safetensors_file.ts";
import { openTorchFile, type TorchFileOptions } from "./torch_file.ts";
import { WeightsError } from "./weights_error.ts";
import { type StoredFile, withoutFloat8 } from "./_without_float8.ts";
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
 * names the source's digest, file name and key. Throws `WeightsError` as `openTorchFile` does, and where it cannot be
 * written.
 */
export async function cachedAsSafetensors(
  path: string,
  cacheDir: string,
  options: CachedOptions = {},
): Promise<string> {
  const file = openTorchFile(path, options);
  return (await cachedConversion(file, { cacheDir, files: [file], ...options })).path;
}

/** A copy in the cache. */
export interface CachedCopy {
  readonly path: string;
  /** sha256 of the file that it was made of. */
  readonly digest: string;
}

/** As `cachedAsSafetensors`, of a file of either kind; what is in eight bits becomes what `withoutFloat8` makes of it. */
export async function cachedConversion(
  file: StoredFile,
  { cacheDir, files, asFloat32 = false, key }: CachedOptions & {
    readonly cacheDir: string;
    /** The file and all other shards of its model. */
    readonly files: readonly StoredFile[];
  },
): Promise<CachedCopy> {
  const digest = await cachedSha256(file, cacheDir);
  const source = files.some(hasFloat8)
    ? withoutFloat8(file, files)
    : { tensors: file.tensors, read: file.read.bind(file), scaledBy: new Set<StoredFile>() };
  const suffix = [
    ...key === undefined ? [] : [sha256(key).slice(0, 8)],
    ...await suffixOfScales(file, { ...source, cacheDir }),
    ...asFloat32 ? ["float32"] : [],
  ].map((part) => `-${part}`).join("");
  const path = join(resolve(cacheDir), `${digest}${suffix}.safetensors`);
  // What was damaged in the cache is made anew.
  if (existsSync(path) && isWhole(path)) return { path, digest };
  try {
    mkdirSync(cacheDir, { recursive: true });
    await copyToSafetensors(path, asFloat32 ? widened(source) : source, {
      format: "pt",
      source_name: basename(file.path),
      source_sha256: digest,
      ...(key === undefined ? {} : { source_key: key }),
    });
  } catch (cause) {
    const reason = whyNotWritten(cause);
    if (reason === undefined) throw cause;
    throw new WeightsError(
      file.path,
      `has to be converted, and ${resolve(cacheDir)} cannot be written (${reason}); expected a ` +
        "folder there that can, which in a container is a volume",
      { cause },
    );
  }
  return { path, digest };
}

/** Whether a file has floats in eight bits. */
export function hasFloat8({ tensors }: StoredFile): boolean {
  return [...tensors.values()].some(({ float8 }) => float8 !== undefined);
}

/**
 * What a copy's name says of scales that do not lie in a safetensors file itself: it is another copy with other scales.
 * Those in a PyTorch file are among them, as copies that were once made without them have no such part.
 */
async function suffixOfScales(
  file: StoredFile,
  { scaledBy, cacheDir }: {
    readonly scaledBy: ReadonlySet<StoredFile>;
    readonly cacheDir: string;
  },
): Promise<readonly string[]> {
  const digests: string[] = [];
  for (const holder of scaledBy) {
    if (holder === file && file instanceof SafetensorsFile) continue;
    digests.push(await cachedSha256(holder, cacheDir));
  }
  return digests.length === 0 ? [] : [sha256(digests.sort().join()).slice(0, 16)];
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The system's word for what is no fault of the file's; undefined for any other error. */
function whyNotWritten(error: unknown): string | undefined {
  if (error instanceof Deno.errors.NotCapable) return "no permission of Deno's";
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && UNWRITABLE.includes(code) ? code : undefined;
}

const UNWRITABLE = ["EROFS", "EACCES", "EPERM", "ENOSPC", "EDQUOT"];

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
