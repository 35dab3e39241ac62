import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { batchOf, type Float32Tensor } from "../tensors.ts";
import { onDisk } from "./_disk.ts";
import { encodeThumbnail } from "./pictures.ts";

/** Longest side of an image that is kept, in pixels: of a large batch many are kept. */
const SIDE = 256;

/** The images of an iteration as its rewards saw them, small, to be looked at beside their rewards. */
export class IterationImages {
  readonly #folder: string;
  readonly #path: string;
  readonly #files = new Map<number, Promise<Uint8Array>>();

  /** @param folder the run's */
  constructor(folder: string, step: number) {
    this.#folder = folder;
    this.#path = `images/step-${String(step).padStart(6, "0")}`;
  }

  /** Takes images [B, 3, H, W], the first of which is this one of the iteration. An iteration that is done again replaces them. */
  take(first: number, images: Float32Tensor): void {
    for (let i = 0; i < batchOf(images); i++) {
      const file = encodeThumbnail(images, i, SIDE);
      // Waited for when it is written.
      file.catch(() => {});
      this.#files.set(first + i, file);
    }
  }

  /** Writes them. Answers their files, relative to the run's folder, in order of the iteration's images. */
  async write(): Promise<string[]> {
    if (this.#files.size === 0) return [];
    const folder = join(this.#folder, this.#path);
    await onDisk("pictures.folder", () => mkdir(folder, { recursive: true }));
    const paths: string[] = [];
    for (const [index, file] of [...this.#files].sort(([a], [b]) => a - b)) {
      const path = `${this.#path}/${index}.jpg`;
      const bytes = await file;
      await onDisk(
        "pictures.write",
        (part = 1) => writeFile(join(this.#folder, path), bytes.subarray(0, part * bytes.length)),
      );
      paths.push(path);
    }
    return paths;
  }
}
