import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import { sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { toFloat32 } from "./half.ts";
import type { TensorLayout } from "./_safetensors_header.ts";
import type { SafetensorsFile } from "./safetensors_file.ts";
import { cachedSha256 } from "./cached_sha256.ts";
import { WeightsError } from "./weights_error.ts";

/** Where one weight lies, in the terms of ONNX external data. */
export interface WeightLocation extends TensorLayout {
  /** Name of the safetensors file inside `WeightSource.root`. */
  readonly file: string;
  /** First byte, from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
  /** What errors call the file: the user's own, where weights were converted from it. */
  readonly source?: string | undefined;
  /** The file holds the transpose of this matrix. */
  readonly transposed?: boolean;
}

/** A weight under another name than its file has, or a part of one. */
export interface WeightAlias {
  readonly name: string;
  /** The `part`-th of `parts` equal runs of its rows. */
  readonly rows?: { readonly part: number; readonly parts: number };
  /** The file holds the transpose of this matrix. */
  readonly transposed?: boolean;
  /** Sizes of 1 at the end are left out: a 1x1 convolution as a matrix. */
  readonly squeezed?: boolean;
}

/** The weights of one model, in one safetensors file or several shards, left where they are. */
export class WeightSource {
  /** Absolute folder of all the files: what `ModelSource.weightsRoot` takes. */
  readonly root: string;
  readonly #files: readonly [SafetensorsFile, ...SafetensorsFile[]];
  /** Stands before every name in the files. */
  readonly #prefix: string;
  readonly #holders: ReadonlyMap<string, SafetensorsFile>;
  readonly #cacheDir: string | undefined;
  readonly #source: string | undefined;
  readonly #aliases: ReadonlyMap<string, WeightAlias>;
  readonly #known: (() => Promise<string>) | undefined;
  #digest: Promise<string> | undefined;

  /**
   * `holders` says which of `files` holds each weight. All files must lie in one folder. `digest` is given where it is
   * known already, `cacheDir` where digests of files are to be remembered.
   */
  constructor(
    files: readonly [SafetensorsFile, ...SafetensorsFile[]],
    holders: ReadonlyMap<string, SafetensorsFile>,
    { digest, cacheDir, source, prefix = "", aliases = new Map() }: {
      readonly digest?: string | (() => Promise<string>) | undefined;
      /** Stands before every name of `holders` in the files. */
      readonly prefix?: string;
      readonly cacheDir?: string | undefined;
      /** The user's file, where it is not one of `files`. */
      readonly source?: string | undefined;
      /** What names of `holders` stand for in the files; absent: for themselves. */
      readonly aliases?: ReadonlyMap<string, WeightAlias>;
    } = {},
  ) {
    this.#known = typeof digest === "string" ? () => Promise.resolve(digest) : digest;
    this.#prefix = prefix;
    this.#source = source;
    this.#aliases = aliases;
    this.#cacheDir = cacheDir;
    this.root = dirname(files[0].path);
    for (const { path } of files) {
      if (dirname(path) !== this.root) {
        throw new WeightsError(path, `lies outside ${this.root}, where the first shard lies`);
      }
    }
    this.#files = files;
    this.#holders = holders;
  }

  /** The weights whose names begin with a prefix, by their names without it; the files and the digest stay the same. */
  under(prefix: string): WeightSource {
    const names = this.names().filter((name) => name.startsWith(prefix));
    const holders = new Map(names.map((n) => [n.slice(prefix.length), this.#holder(n)]));
    return new WeightSource(this.#files, holders, {
      digest: () => this.digest(),
      prefix: this.#prefix + prefix,
      source: this.#source,
    });
  }

  /** Weights under other names, also parts of them; the files and the digest stay the same. */
  renamed(aliases: ReadonlyMap<string, WeightAlias>): WeightSource {
    const holders = new Map([...aliases].map(([n, alias]) => [n, this.#holder(alias.name)]));
    return new WeightSource(this.#files, holders, {
      digest: () => this.digest(),
      prefix: this.#prefix,
      source: this.#source,
      aliases,
    });
  }

  /** The file or folder that messages name. */
  get path(): string {
    return this.#source ?? (this.#files.length === 1 ? this.#files[0].path : this.root);
  }

  /** Notes in the header of the file, of the first of several shards. */
  get metadata(): ReadonlyMap<string, string> {
    return this.#files[0].metadata;
  }

  /** Every weight's name. */
  names(): string[] {
    return [...this.#holders.keys()];
  }

  /** Bytes of all weights, as stored. */
  get byteLength(): number {
    return this.names().reduce((sum, name) => sum + this.get(name).byteLength, 0);
  }

  has(name: string): boolean {
    return this.#holders.has(name);
  }

  /** Throws `WeightsError` when there is no such weight. */
  get(name: string): WeightLocation {
    const holder = this.#holder(name);
    const alias = this.#aliases.get(name);
    const entry = holder.entry(this.#prefix + (alias?.name ?? name));
    const location = {
      file: basename(holder.path),
      dtype: entry.dtype,
      shape: entry.shape,
      offset: entry.fileOffset,
      byteLength: entry.byteLength,
      ...(this.#source !== undefined && { source: this.#source }),
    };
    return alias === undefined ? location : aliased(location, alias);
  }

  /** Reads one weight as stored: float16 and bfloat16 as bits. Throws `WeightsError` when there is no such weight. */
  async read(name: string): Promise<Tensor> {
    const alias = this.#aliases.get(name);
    const whole = await this.#holder(name).read(this.#prefix + (alias?.name ?? name));
    return alias === undefined ? whole : readAliased(whole, alias);
  }

  /**
   * sha256 in lower-case hex: of the file, or for several shards of their digests, one a line, in the order of the
   * shards' names. Of converted files it is that of the files they were made of, not of the copies. Streamed on the first
   * call, remembered after.
   */
  digest(): Promise<string> {
    return this.#digest ??= this.#known?.() ?? this.#computeDigest();
  }

  async #computeDigest(): Promise<string> {
    const digests: string[] = [];
    const cacheDir = this.#cacheDir;
    for (const file of this.#files) {
      digests.push(
        cacheDir === undefined ? await file.sha256() : await cachedSha256(file, cacheDir),
      );
    }
    return digestOfAll(digests);
  }

  #holder(name: string): SafetensorsFile {
    const holder = this.#holders.get(name);
    if (holder === undefined) {
      throw new WeightsError(
        this.path,
        `has no weight "${name}" among its ${this.#holders.size} weights`,
      );
    }
    return holder;
  }
}

/** The digest of a model of these files' digests, in the order of their names; see `WeightSource.digest`. */
export function digestOfAll(digests: readonly string[]): string {
  const [only] = digests;
  if (only !== undefined && digests.length === 1) return only;
  return createHash("sha256").update(digests.map((d) => `${d}\n`).join("")).digest("hex");
}

function aliased(
  { shape, offset, byteLength, ...location }: WeightLocation,
  { rows: { part, parts } = { part: 0, parts: 1 }, transposed = false, squeezed }: WeightAlias,
): WeightLocation {
  const [first = 0, ...rest] = shape;
  const taken = [first / parts, ...rest];
  const plain = squeezed ? taken.slice(0, 2) : taken;
  return {
    ...location,
    shape: transposed ? plain.toReversed() : plain,
    offset: offset + part * byteLength / parts,
    byteLength: byteLength / parts,
    ...(transposed && { transposed }),
  };
}

function readAliased(whole: Tensor, alias: WeightAlias): Tensor {
  const { part, parts } = alias.rows ?? { part: 0, parts: 1 };
  const [first = 0, ...rest] = whole.shape;
  const size = sizeOf(whole.shape) / parts;
  const shape = alias.squeezed ? [first / parts, ...rest].slice(0, 2) : [first / parts, ...rest];
  const { dtype, data } = toFloat32(whole);
  const run = data.slice(part * size, (part + 1) * size);
  if (!alias.transposed) return { dtype, shape, data: run };
  const [rows = 0, columns = 0] = shape;
  const turned = run.map((_, i) => run[(i % rows) * columns + Math.floor(i / rows)] ?? NaN);
  return { dtype, shape: [columns, rows], data: turned };
}
