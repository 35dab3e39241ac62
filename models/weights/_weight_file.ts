import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { resolve } from "node:path";
import { WeightsError } from "./weights_error.ts";

const CHUNK = 4 << 20;
const MAX_READ = 256 << 20;

/** A stretch of a file, in bytes. */
export interface ByteRange {
  readonly position: number;
  readonly length: number;
}

/**
 * A regular file read by position, never as a whole. It holds no descriptor between reads, so it needs no
 * closing; instead every read checks that the file is still the one that was opened, because offsets taken
 * from the header of one file would silently read nonsense from its successor.
 */
export class WeightFile {
  readonly path: string;
  readonly size: number;
  readonly #stamp: string;

  /** Throws `WeightsError` when `path` is not a readable regular file. */
  constructor(path: string) {
    this.path = resolve(path);
    const stat = this.#try(() => statSync(this.path, { bigint: true }));
    // Opening a named pipe would wait for a writer for ever.
    if (!stat.isFile()) throw new WeightsError(this.path, "is not a regular file");
    this.size = Number(stat.size);
    this.#stamp = stampOf(stat);
  }

  /** Reads small ranges at once, on this thread: meant for headers. */
  readSmall(ranges: readonly ByteRange[]): Uint8Array<ArrayBuffer>[] {
    const fd = this.#try(() => openSync(this.path, "r"));
    try {
      this.#checkUnchanged(fstatSync(fd, { bigint: true }));
      return ranges.map(({ position, length }) => {
        this.#checkEnd(position + length);
        const bytes = new Uint8Array(length);
        for (let done = 0; done < length;) {
          const read = readSync(fd, bytes, done, length - done, position + done);
          if (read === 0) this.#truncated(position + length);
          done += read;
        }
        return bytes;
      });
    } finally {
      closeSync(fd);
    }
  }

  /** Reads `length` bytes from `position` without blocking the thread. */
  async read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#checkEnd(position + length);
    const bytes = new Uint8Array(length);
    await using handle = await this.#open();
    for (let done = 0; done < length;) {
      // In pieces, as one read is limited to 2^31 bytes and tensors are not.
      const piece = bytes.subarray(done, done + MAX_READ);
      const { bytesRead } = await handle.read(piece, 0, piece.length, position + done);
      if (bytesRead === 0) this.#truncated(position + length);
      done += bytesRead;
    }
    return bytes;
  }

  /** sha256 of the whole file in lower-case hex, read in chunks of 4 MiB. */
  async sha256(): Promise<string> {
    const hash = createHash("sha256");
    const chunk = new Uint8Array(CHUNK);
    await using handle = await this.#open();
    for (let position = 0; position < this.size;) {
      const { bytesRead } = await handle.read(chunk, 0, CHUNK, position);
      if (bytesRead === 0) this.#truncated(this.size);
      hash.update(chunk.subarray(0, bytesRead));
      position += bytesRead;
    }
    return hash.digest("hex");
  }

  async #open(): Promise<FileHandle> {
    const handle = await open(this.path).catch((cause) => this.#unreadable(cause));
    try {
      this.#checkUnchanged(await handle.stat({ bigint: true }));
    } catch (error) {
      await handle.close();
      throw error;
    }
    return handle;
  }

  #try<T>(action: () => T): T {
    try {
      return action();
    } catch (cause) {
      return this.#unreadable(cause);
    }
  }

  #unreadable(cause: unknown): never {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const detail = isMissing ? "does not exist" : `cannot be read: ${cause}`;
    throw new WeightsError(this.path, detail, { cause });
  }

  #checkEnd(end: number): void {
    if (end > this.size) this.#truncated(end);
  }

  #truncated(needed: number): never {
    throw new WeightsError(
      this.path,
      `ends at byte ${this.size}, expected at least ${needed} bytes`,
    );
  }

  #checkUnchanged(stat: Stamp): void {
    if (stampOf(stat) !== this.#stamp) {
      throw new WeightsError(this.path, "changed on disk since it was opened");
    }
  }
}

interface Stamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
}

function stampOf({ dev, ino, size, mtimeNs }: Stamp): string {
  return `${dev} ${ino} ${size} ${mtimeNs}`;
}
