import { type DType, type Shape, sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { type Float8, float8ToFloat16 } from "./float8.ts";
import { isTuple, kindOf, PickleList, type PickleValue, TensorRef } from "./_pickle_values.ts";
import type { TensorLayout } from "./_safetensors_header.ts";
import { tensorFromBytes } from "./_tensor_bytes.ts";
import { readTorchLayout } from "./_torch_layout.ts";
import { spanOf, STORED_BYTES } from "./_torch_pickle.ts";
import { WeightFile } from "./_weight_file.ts";
import { WeightsError } from "./weights_error.ts";

/** Options of `openTorchFile`, `readTorchFile` and `cachedAsSafetensors`. */
export interface TorchFileOptions {
  /** Take only what lies under this key of the outermost dictionary, e.g. "state_dict". */
  readonly key?: string;
}

const MAX_DEPTH = 64;
const MAX_VISITS = 100_000;

/** Views may repeat what is stored; a file may not thereby grow without measure. */
const MAX_EXPANSION = 8;
const ALWAYS_ALLOWED_BYTES = 16 << 20;

/** An open `.pt` or `.pth` file: its pickle parsed, its tensors on disk. Holds no descriptor; needs no closing. */
export class TorchFile {
  /** Absolute path. */
  readonly path: string;
  /**
   * dtype and shape of every tensor, and which floats in eight bits it has; names are dictionary keys and list indices
   * joined by dots.
   */
  readonly tensors: ReadonlyMap<string, TensorLayout & { readonly float8?: Float8 }>;
  /** Numbers beside the tensors in the outermost dictionary: what a training program remembers, as "global_step". */
  readonly numbers: ReadonlyMap<string, number>;
  /** Whether it is a TorchScript archive, whose tensors are named by the modules that hold them. */
  readonly isScript: boolean;
  readonly #file: WeightFile;
  readonly #refs: ReadonlyMap<string, TensorRef>;
  readonly #positions: ReadonlyMap<string, number>;

  /** See `openTorchFile`. */
  constructor(path: string, { key }: TorchFileOptions = {}) {
    this.#file = new WeightFile(path);
    this.path = this.#file.path;
    const { root, positions, isScript } = readTorchLayout(this.#file);
    this.isScript = isScript;
    this.numbers = numbersOf(root);
    this.#positions = positions;
    this.#refs = flatten(key === undefined ? root : select(root, key, this.path), this.path);
    this.tensors = new Map(
      [...this.#refs].map(([name, { dtype, shape }]) => [
        name,
        { dtype: widened(dtype), shape, ...(isFloat8(dtype) && { float8: dtype }) },
      ]),
    );
    let total = 0;
    for (const { dtype, shape } of this.#refs.values()) {
      total += STORED_BYTES[dtype] * sizeOf(shape);
    }
    const allowed = MAX_EXPANSION * this.#file.size + ALWAYS_ALLOWED_BYTES;
    if (!(total <= allowed)) {
      throw new WeightsError(
        this.path,
        `tensors take ${total} bytes, expected at most ${allowed} for a file of ${this.#file.size}`,
      );
    }
  }

  /** sha256 of the file in lower-case hex, streamed. */
  sha256(): Promise<string> {
    return this.#file.sha256();
  }

  /** Reads one tensor, made dense; int16 as int32, floats of eight bits as float16. Throws `WeightsError` when there is none of that name. */
  async read(name: string): Promise<Tensor> {
    const ref = this.#refs.get(name);
    const position = this.#positions.get(ref?.storage.key ?? "");
    if (ref === undefined || position === undefined) {
      throw new WeightsError(
        this.path,
        `has no tensor "${name}" among its ${this.#refs.size} tensors`,
      );
    }
    const { dtype, shape, strides, offset } = ref;
    const size = STORED_BYTES[dtype];
    const span = spanOf(shape, strides);
    const stored = await this.#file.read(position + offset * size, span * size);
    const dense = isDense(shape, strides) ? stored : gather(stored, ref);
    if (dtype === "int16") {
      return { dtype: "int32", shape, data: Int32Array.from(new Int16Array(dense.buffer)) };
    }
    return isFloat8(dtype)
      ? { dtype: "float16", shape, data: float8ToFloat16(dense, dtype) }
      : tensorFromBytes(dtype, shape, dense);
  }
}

/**
 * Opens a file written by `torch.save`, in the zip layout or the one before PyTorch 1.6, without executing anything in
 * it: pickle protocols 2 to 5, dictionaries, lists and tuples of tensors and parameters, of which numbers, text, None and
 * what else Python and training programs put beside them are skipped; storages of any device, shared or viewed with
 * strides; dtypes float64, float32, float16, bfloat16, float8_e4m3fn, float8_e5m2, int64, int32, int16, int8, uint8 and
 * bool. Of a TorchScript archive the modules' tensors are read and the program is not. Any other opcode or global, whole
 * pickled modules among them, is refused by name and position. Reads the pickle, not the tensors.
 */
export function openTorchFile(path: string, options?: TorchFileOptions): TorchFile {
  return new TorchFile(path, options);
}

/** As `openTorchFile`, then reads all tensors. */
export async function readTorchFile(
  path: string,
  options?: TorchFileOptions,
): Promise<{ tensors: Map<string, Tensor> }> {
  const file = openTorchFile(path, options);
  const tensors = new Map<string, Tensor>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  return { tensors };
}

function select(root: PickleValue, key: string, path: string): PickleValue {
  if (!(root instanceof Map)) {
    throw new WeightsError(
      path,
      `holds a ${kindOf(root)}, expected a dictionary with key "${key}"`,
    );
  }
  const value = root.get(key);
  if (value === undefined) {
    const found = [...root.keys()].slice(0, 8).join(", ");
    throw new WeightsError(path, `has no key "${key}"; its first keys are ${found}`);
  }
  return value;
}

function numbersOf(root: PickleValue): Map<string, number> {
  if (!(root instanceof Map)) return new Map();
  return new Map(
    [...root].flatMap(([key, value]) => typeof value === "number" ? [[String(key), value]] : []),
  );
}

function flatten(root: PickleValue, path: string): Map<string, TensorRef> {
  const found = new Map<string, TensorRef>();
  let visits = 0;
  const visit = (value: PickleValue, name: string, depth: number): void => {
    // A container may be shared by many, or hold itself: the number of ways through it can be exponential or endless.
    if (++visits > MAX_VISITS) throw new WeightsError(path, `holds more than ${MAX_VISITS} values`);
    if (depth > MAX_DEPTH) {
      throw new WeightsError(path, `nests containers more than ${MAX_DEPTH} deep`);
    }
    if (value instanceof TensorRef) {
      if (found.has(name)) throw new WeightsError(path, `holds two tensors named "${name}"`);
      found.set(name, value);
    } else if (value instanceof Map || value instanceof PickleList || isTuple(value)) {
      const items = value instanceof PickleList ? value.items : value;
      for (const [key, item] of items.entries()) {
        visit(item, depth === 0 ? String(key) : `${name}.${key}`, depth + 1);
      }
    }
  };
  visit(root, "", 0);
  if (root instanceof TensorRef) {
    throw new WeightsError(path, "holds a tensor without a name, expected a dictionary");
  }
  if (found.size === 0) throw new WeightsError(path, "holds no tensors");
  return found;
}

/** Row-major without gaps; the stride of a dimension of one element does not matter. */
function isDense(shape: Shape, strides: readonly number[]): boolean {
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    const size = shape[d] ?? 1;
    if (size !== 1 && strides[d] !== expected) return false;
    expected *= size;
  }
  return true;
}

/** Copies a strided view, which begins at `stored[0]`, into row-major order. */
function gather(stored: Uint8Array, { dtype, shape, strides }: TensorRef): Uint8Array<ArrayBuffer> {
  const size = STORED_BYTES[dtype];
  const dense = new Uint8Array(sizeOf(shape) * size);
  const index = shape.map(() => 0);
  let from = 0;
  for (let at = 0; at < dense.length;) {
    for (let byte = 0; byte < size; byte++) dense[at++] = stored[from * size + byte] ?? 0;
    for (let d = shape.length - 1; d >= 0; d--) {
      const next = (index[d] ?? 0) + 1;
      const extent = shape[d] ?? 1;
      const stride = strides[d] ?? 0;
      index[d] = next % extent;
      from += stride - (next === extent ? extent * stride : 0);
      if (next < extent) break;
    }
  }
  return dense;
}

function widened(dtype: TensorRef["dtype"]): DType {
  if (dtype === "int16") return "int32";
  return isFloat8(dtype) ? "float16" : dtype;
}

function isFloat8(dtype: TensorRef["dtype"]): dtype is Float8 {
  return dtype === "float8_e4m3fn" || dtype === "float8_e5m2";
}
