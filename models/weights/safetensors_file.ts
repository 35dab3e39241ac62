import type { Tensor, TensorOf } from "../../autodiff/mod.ts";
import { toFloat32 } from "./half.ts";
import {
  headerLength,
  parseHeader,
  PREFIX_BYTES,
  type SafetensorsEntry,
} from "./_safetensors_header.ts";
import { tensorOfEntry } from "./_tensor_bytes.ts";
import { WeightFile } from "./_weight_file.ts";
import { WeightsError } from "./weights_error.ts";

/** Options of `openSafetensors`. */
export interface SafetensorsOptions {
  /** Longest header that is read, in bytes. Default: the format's own limit, 100 MB. */
  readonly maxHeaderBytes?: number;
}

/** An open safetensors file: its header in memory, its tensors on disk. Holds no descriptor; needs no closing. */
export class SafetensorsFile {
  /** Absolute path. */
  readonly path: string;
  /** The header's `__metadata__`, empty when there is none. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Every tensor, in the order of the data. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  readonly #file: WeightFile;

  /** Reads and checks the header; see `openSafetensors`. */
  constructor(path: string, { maxHeaderBytes }: SafetensorsOptions = {}) {
    this.#file = new WeightFile(path);
    this.path = this.#file.path;
    const { size } = this.#file;
    const [prefix = new Uint8Array()] = this.#file.readSmall([
      { position: 0, length: Math.min(PREFIX_BYTES, size) },
    ]);
    const length = headerLength(prefix, { path: this.path, size, max: maxHeaderBytes });
    const [header = new Uint8Array()] = this.#file.readSmall([{ position: PREFIX_BYTES, length }]);
    ({ metadata: this.metadata, tensors: this.tensors } = parseHeader(header, {
      path: this.path,
      size,
    }));
  }

  /** Reads one tensor as stored: float16 and bfloat16 as raw bits; floats of eight bits as float16. Throws `WeightsError` when there is none of that name. */
  async read(name: string): Promise<Tensor> {
    const entry = this.entry(name);
    return tensorOfEntry(entry, await this.#file.read(entry.fileOffset, entry.byteLength));
  }

  /** Reads one float tensor in float32; see `toFloat32`. Throws `WeightsError` for an integer or bool tensor. */
  async readFloat32(name: string): Promise<TensorOf<"float32">> {
    const tensor = await this.read(name);
    try {
      return toFloat32(tensor);
    } catch (cause) {
      throw new WeightsError(
        this.path,
        `tensor "${name}" has dtype ${tensor.dtype}, expected a float dtype`,
        { cause },
      );
    }
  }

  /** Where a tensor lies. Throws `WeightsError` when there is none of that name. */
  entry(name: string): SafetensorsEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) {
      throw new WeightsError(
        this.path,
        `has no tensor "${name}" among its ${this.tensors.size} tensors`,
      );
    }
    return entry;
  }

  /** sha256 of the file in lower-case hex, streamed. */
  sha256(): Promise<string> {
    return this.#file.sha256();
  }
}

/**
 * Opens a safetensors file, reading only its header. The header is checked in full before anything is allocated for
 * data: length, JSON, dtypes, shapes, and byte ranges that cover the data without overlap or hole. Errors are
 * `WeightsError`s that name the file, the tensor, what was found and what was expected.
 */
export function openSafetensors(path: string, options?: SafetensorsOptions): SafetensorsFile {
  return new SafetensorsFile(path, options);
}
