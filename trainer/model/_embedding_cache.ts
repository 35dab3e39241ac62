import { createHash } from "node:crypto";
import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import { hashTensors } from "./_hash_tensors.ts";

/** How much is kept where nothing is said. */
const MEMORY_BYTES = 2 ** 28;
const DISK_BYTES = 2 ** 34;
const SUFFIX = ".safetensors";

/** Options of an `EmbeddingCache`. */
export interface EmbeddingCacheOptions {
  /** Folder of the files, one for each key; made when first written. Default: memory alone. */
  readonly folder?: string | undefined;
  /** Bytes kept in memory, the latest always. Default 256 MiB. */
  readonly memoryBytes?: number | undefined;
  /** Bytes of files, beyond which those unused for longest are removed. Default 16 GiB. */
  readonly diskBytes?: number | undefined;
}

/** What text encoders made, under digests of all that it depends on: in memory what was used last, the rest in files. */
export class EmbeddingCache {
  readonly #folder: string | undefined;
  readonly #memoryBytes: number;
  readonly #diskBytes: number;
  /** In the order of their last use. */
  readonly #held = new Map<string, Parameters>();
  #heldBytes = 0;
  /** Bytes of the files, as far as known; undefined until one was written. */
  #fileBytes: number | undefined;

  constructor(
    { folder, memoryBytes = MEMORY_BYTES, diskBytes = DISK_BYTES }: EmbeddingCacheOptions = {},
  ) {
    this.#folder = folder;
    this.#memoryBytes = memoryBytes;
    this.#diskBytes = diskBytes;
  }

  /** What was put under a key; undefined where nothing is there any more, or a file was damaged. */
  async get(key: string): Promise<Parameters | undefined> {
    const held = this.#held.get(key) ?? await this.#read(key);
    if (held !== undefined) this.#hold(key, held);
    return held;
  }

  /** Keeps tensors. A disk without room for them is no fault: they are computed again. */
  async put(key: string, tensors: Parameters): Promise<void> {
    this.#hold(key, tensors);
    const folder = this.#folder;
    if (folder === undefined) return;
    try {
      await mkdir(folder, { recursive: true });
      await writeSafetensors(this.#file(folder, key), tensors, { sha256: digestOf(tensors) });
      this.#fileBytes = (this.#fileBytes ?? await bytesIn(folder)) + bytesOf(tensors);
      if (this.#fileBytes > this.#diskBytes) this.#fileBytes = await this.#prune(folder);
    } catch (error) {
      if (!isOfDisk(error)) throw error;
    }
  }

  async #read(key: string): Promise<Parameters | undefined> {
    if (this.#folder === undefined) return undefined;
    const file = this.#file(this.#folder, key);
    try {
      const opened = openSafetensors(file);
      const tensors: Record<string, Float32Tensor> = {};
      for (const name of opened.tensors.keys()) tensors[name] = await opened.readFloat32(name);
      if (digestOf(tensors) !== opened.metadata.get("sha256")) return undefined;
      const now = new Date();
      await utimes(file, now, now).catch(() => {});
      return tensors;
    } catch {
      // A file that is not there, or was damaged, is written anew.
      return undefined;
    }
  }

  #hold(key: string, tensors: Parameters): void {
    const before = this.#held.get(key);
    if (before !== undefined) this.#heldBytes -= bytesOf(before);
    this.#held.delete(key);
    this.#held.set(key, tensors);
    this.#heldBytes += bytesOf(tensors);
    for (const [oldest, value] of this.#held) {
      if (this.#heldBytes <= this.#memoryBytes || oldest === key) break;
      this.#held.delete(oldest);
      this.#heldBytes -= bytesOf(value);
    }
  }

  /** Removes the files unused for longest until nine tenths of the bound are left. Answers the bytes left. */
  async #prune(folder: string): Promise<number> {
    const files = (await filesIn(folder)).sort((a, b) => a.usedMs - b.usedMs);
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of files) {
      if (bytes <= 0.9 * this.#diskBytes) break;
      await rm(file.path, { force: true });
      bytes -= file.bytes;
    }
    return bytes;
  }

  #file(folder: string, key: string): string {
    return join(folder, `${key}${SUFFIX}`);
  }
}

/** sha256 of tensors in lower-case hex. Safetensors has no checksum: a flipped bit would be an embedding like any other. */
function digestOf(tensors: Parameters): string {
  return hashTensors(createHash("sha256"), tensors).digest("hex");
}

function bytesOf(tensors: Parameters): number {
  return Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
}

async function bytesIn(folder: string): Promise<number> {
  return (await filesIn(folder)).reduce((sum, { bytes }) => sum + bytes, 0);
}

async function filesIn(folder: string) {
  const all: { readonly path: string; readonly bytes: number; readonly usedMs: number }[] = [];
  for (const name of await readdir(folder)) {
    if (!name.endsWith(SUFFIX)) continue;
    const path = join(folder, name);
    // Another process may have removed it meanwhile.
    const found = await stat(path).catch(() => undefined);
    if (found) all.push({ path, bytes: found.size, usedMs: found.mtimeMs });
  }
  return all;
}

/** Whether a disk refused: what is written to a cache is not worth failing for. */
function isOfDisk(error: unknown): boolean {
  return error instanceof Deno.errors.NotCapable || (error instanceof Error && "code" in error);
}
