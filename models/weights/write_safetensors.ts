import { basename, dirname, join } from "node:path";
import type { Tensor } from "../../autodiff/mod.ts";
import { byteSize, encodeHeader, type TensorLayout } from "./_safetensors_header.ts";
import { checkTensors } from "./safetensors_bytes.ts";
import { bytesOf } from "./_tensor_bytes.ts";

/** Tensors that can be read one at a time. */
export interface TensorReader {
  readonly tensors: ReadonlyMap<string, TensorLayout>;
  read(name: string): Promise<Tensor>;
}

/**
 * Writes a safetensors file atomically: a temporary file beside it is written, flushed to disk and renamed, so
 * `path` holds either what it held before or the whole new file. Equal tensors and metadata give equal bytes.
 * Throws `RangeError` when a tensor's data does not fit its shape or a name is `__metadata__`.
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  checkTensors(tensors);
  const all = new Map(Object.entries(tensors));
  const read = (name: string) => {
    const tensor = all.get(name);
    return tensor ? Promise.resolve(tensor) : Promise.reject(new RangeError(`No tensor "${name}"`));
  };
  await copyToSafetensors(path, { tensors: all, read }, metadata);
}

/** As `writeSafetensors`, but holds one tensor in memory at a time. */
export async function copyToSafetensors(
  path: string,
  source: TensorReader,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const { prefixAndHeader, names } = encodeHeader(source.tensors, metadata);
  const temporary = join(dirname(path), `.${basename(path)}.${crypto.randomUUID()}.tmp`);
  try {
    {
      using file = await Deno.open(temporary, { write: true, createNew: true });
      await writeAll(file, prefixAndHeader);
      for (const name of names) await writeAll(file, bytesOf(await source.read(name)));
      await file.sync();
    }
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/**
 * Writes a safetensors file of these layouts whose data is a hole: all of it reads as 0 and takes no room on a disk whose
 * file system knows holes. Throws as the file system does.
 */
export async function writeHollowSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorLayout>,
): Promise<void> {
  const { prefixAndHeader } = encodeHeader(tensors);
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  await writeAll(file, prefixAndHeader);
  const data = [...tensors.values()].reduce((sum, layout) => sum + byteSize(layout), 0);
  await file.truncate(prefixAndHeader.length + data);
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
