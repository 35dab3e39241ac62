import {
  type Builder,
  BYTES_PER_ELEMENT,
  type DType,
  type Shape,
  sizeOf,
  type Value,
} from "../autodiff/mod.ts";
import { type WeightLocation, WeightsError } from "./weights/mod.ts";

/** Where a weight lies. `shape` is what it is read as. */
export interface StoredWeight
  extends Pick<WeightLocation, "file" | "dtype" | "shape" | "offset" | "source"> {
  /** The file holds the transpose of this matrix. */
  readonly transposed?: boolean;
}

/** A state dict by its names: a `WeightSource`, or a view of one under other names. */
export interface WeightTable {
  has(name: string): boolean;
  /** Throws `WeightsError` when there is no such weight. */
  get(name: string): StoredWeight;
}

/** A low-rank adapter of one module: its weight is W + scale · B A, taken as a matrix. */
export interface ThinPair {
  /** [rank, in], or [rank, in, height, width] of a convolution. */
  readonly a: Value;
  /** [out, rank], or [out, rank, 1, 1]. */
  readonly b: Value;
  /** alpha / rank, the factor of the product. */
  readonly scale: number;
  /** Whether it may be added to the weight: in float16, an adapter that is small beside it would be rounded away. */
  readonly mayMerge: boolean;
}

/** What makes weights others than the state dict's. Paths are full state-dict names. */
export interface WeightChanges {
  /** The adapter of a module whose weight is changed by a thin product and nothing else: a layer may compute it beside. */
  thin(module: string): ThinPair | undefined;
  /** Whether `apply` changes this weight. */
  has(path: string): boolean;
  /** The weight as it is read; `stored` is `undefined` where the state dict has none, which a bias may be. */
  apply(path: string, stored: Value | undefined): Value | undefined;
}

/**
 * Weights below one prefix of a state dict, as values of a graph under construction. Values stay in their files;
 * those stored in another dtype are cast to `dtype`, which the runtime folds once at load.
 */
export class WeightScope {
  readonly b: Builder;
  readonly dtype: DType;
  readonly #source: WeightTable;
  readonly #prefix: string;
  readonly #changes: WeightChanges | undefined;

  constructor(
    b: Builder,
    source: WeightTable,
    options: {
      readonly prefix?: string;
      readonly dtype?: DType;
      readonly changes?: WeightChanges | undefined;
    } = {},
  ) {
    this.b = b;
    this.#source = source;
    this.#changes = options.changes;
    this.#prefix = options.prefix ?? "";
    this.dtype = options.dtype ?? "float32";
  }

  /** The scope one step down: `at("encoder").at("layers.0")` reads "encoder.layers.0.*". */
  at(name: string): WeightScope {
    const { dtype } = this;
    const changes = this.#changes;
    return new WeightScope(this.b, this.#source, { prefix: this.path(name), dtype, changes });
  }

  /** Full state-dict name of `name` in this scope, or of the scope itself. */
  path(name = ""): string {
    return [this.#prefix, name].filter((part) => part !== "").join(".");
  }

  /** True where the state dict has this name, or a change makes it. */
  has(name: string): boolean {
    const path = this.path(name);
    return this.#source.has(path) || (this.#changes?.has(path) ?? false);
  }

  /** The adapter that the layer at this scope may compute beside its weight: then it reads that `unchanged`. */
  thin(): ThinPair | undefined {
    return this.#changes?.thin(this.path());
  }

  /**
   * A weight that must have exactly `shape` in the file, read as `as`, a shape of equal size: a 1x1 convolution's
   * [O, C, 1, 1] as the matrix [O, C], with the changes made to it. Throws `WeightsError` naming file, weight, found and
   * expected.
   */
  get(name: string, shape: Shape, as: Shape = shape): Value {
    const path = this.path(name);
    if (!this.#changes?.has(path)) return this.unchanged(name, shape, as);
    const stored = this.#source.has(path) ? this.unchanged(name, shape, as) : undefined;
    return this.#changes.apply(path, stored) ?? this.unchanged(name, shape, as);
  }

  /** A weight as `get` reads it, without changes. */
  unchanged(name: string, shape: Shape, as: Shape = shape): Value {
    return this.b.cast(this.stored(name, shape, as), this.dtype);
  }

  /** Those rows of a weight as `get`'s, of any shape of `ids`; only they are cast. */
  rowsAt(ids: Value, name: string, shape: Shape): Value {
    return this.b.cast(this.b.gather(this.stored(name, shape), ids), this.dtype);
  }

  /** A weight as `get` reads it, in the dtype it has in the file. */
  protected stored(name: string, shape: Shape, as: Shape = shape): Value {
    const path = this.path(name);
    const { file, offset, dtype, transposed = false } = this.#checked(name, shape);
    const stored = transposed ? shape.toReversed() : as;
    const weight = this.b.weight(path, { dtype, shape: stored }, { file, offset });
    return transposed ? this.b.reshape(this.b.transpose(weight, [1, 0]), as) : weight;
  }

  /** Rows start..end of a weight that must have exactly `shape` in the file; the others are not read. */
  rows(name: string, shape: Shape, { start, end }: { start: number; end: number }): Value {
    if (this.#changes?.has(this.path(name))) {
      return this.b.slice(this.get(name, shape), { axis: 0, start, end });
    }
    const whole = this.#float(name);
    if (whole.transposed || whole.shape.join() !== shape.join()) {
      return this.b.slice(this.get(name, shape), { axis: 0, start, end });
    }
    const part = [end - start, ...shape.slice(1)];
    const bytesPerRow = sizeOf(shape.slice(1)) * BYTES_PER_ELEMENT[whole.dtype];
    const location = { file: whole.file, offset: whole.offset + start * bytesPerRow };
    const type = { dtype: whole.dtype, shape: part };
    const rows = this.b.weight(`${this.path(name)}[${start}:${end}]`, type, location);
    return this.b.cast(rows, this.dtype);
  }

  /**
   * Rows and columns of a grid that is stored as [1, height · width, C], as [1, rows · columns, C]: only those rows are
   * read, only those columns cast.
   */
  grid(
    name: string,
    { height, width, channels }: { height: number; width: number; channels: number },
    { rows, columns }: { rows: readonly [number, number]; columns: readonly [number, number] },
  ): Value {
    const path = this.path(name);
    const { file, dtype, offset } = this.#checked(name, [1, height * width, channels]);
    const [count, wanted] = [rows[1] - rows[0], columns[1] - columns[0]];
    const bytesPerRow = width * channels * BYTES_PER_ELEMENT[dtype];
    const part = this.b.weight(
      `${path}[${rows}]`,
      { dtype, shape: [count, width, channels] },
      { file, offset: offset + rows[0] * bytesPerRow },
    );
    const [start, end] = columns;
    const cropped = wanted === width ? part : this.b.slice(part, { axis: 1, start, end });
    return this.b.reshape(this.b.cast(cropped, this.dtype), [1, count * wanted, channels]);
  }

  /** The entry of a weight that must have exactly `shape` in the file. */
  #checked(name: string, shape: Shape): StoredWeight {
    const path = this.path(name);
    const entry = this.#float(name);
    if (entry.shape.join() === shape.join()) return entry;
    throw new WeightsError(
      entry.source ?? entry.file,
      `weight "${path}" has shape [${entry.shape}], the configuration needs [${shape}]`,
    );
  }

  /** The entry of a weight, which must be floats: whole numbers are quantized ones, whose scale nobody multiplies in. */
  #float(name: string): StoredWeight {
    const path = this.path(name);
    const entry = this.#source.get(path);
    if (FLOATS.includes(entry.dtype)) return entry;
    throw new WeightsError(
      entry.source ?? entry.file,
      `weight "${path}" is ${entry.dtype}, expected one of ${FLOATS.join(", ")}`,
    );
  }
}

const FLOATS: readonly DType[] = ["float32", "float16", "bfloat16", "float64"];
