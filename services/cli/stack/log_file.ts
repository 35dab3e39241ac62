import { renameSync, statSync } from "node:fs";

/** A log that is appended to; beyond `maxBytes` (16 MiB) it begins anew, and the one before is kept as `.1`. */
export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  #file: Deno.FsFile;
  #bytes: number;

  constructor(path: string, { maxBytes = 16 * 2 ** 20 }: { readonly maxBytes?: number } = {}) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#file = Deno.openSync(path, { create: true, append: true });
    this.#bytes = statSync(path).size;
  }

  /** Appends a line. A full disk loses lines and stops nothing. */
  line(text: string): void {
    const bytes = new TextEncoder().encode(`${text}\n`);
    try {
      if (this.#bytes + bytes.length > this.#maxBytes) this.#turn();
      for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
      this.#bytes += bytes.length;
    } catch {
      // Nobody is left to be told.
    }
  }

  close(): void {
    this.#file.close();
  }

  #turn(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const file = Deno.openSync(this.#path, { create: true, append: true });
    this.#file.close();
    this.#file = file;
    this.#bytes = 0;
  }
}
