import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import type { Tensor } from "../../autodiff/mod.ts";
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
  readonly #known: (() => Promise<string>) | undefined;
  #digest: Promise<string> | undefined;

  /**
   * `holders` says which of `files` holds each weight. All files must lie in one folder. `digest` is given where it is
   * known already, `cacheDir` where digests of files are to be remembered.
   */
  constructor(
    files: readonly [SafetensorsFile, ...SafetensorsFile[]],
    holders: ReadonlyMap<string, SafetensorsFile>,
    { digest, cacheDir, prefix = "" }: {
      readonly digest?: string | (() => Promise<string>) | undefined;
      /** Stands before every name of `holders` in the files. */
      readonly prefix?: string;
      readonly cacheDir?: string | undefined;
    } = {},
  ) {
    this.#known = typeof digest === "string" ? () => Promise.resolve(digest) : digest;
    this.#prefix = prefix;
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
    });
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
    const { dtype, shape, fileOffset, byteLength } = holder.entry(this.#prefix + name);
    return { file: basename(holder.path), dtype, shape, offset: fileOffset, byteLength };
  }

  /** Reads one weight as stored: float16 and bfloat16 as bits. Throws `WeightsError` when there is no such weight. */
  async read(name: string): Promise<Tensor> {
    return await this.#holder(name).read(this.#prefix + name);
  }

  /**
   * sha256 in lower-case hex: of the file, or for several shards of their digests, one a line, in the order of the
   * shards' names. Of a converted PyTorch file it is that file's own. Streamed on the first call, remembered after.
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
    const [only] = digests;
    if (only !== undefined && digests.length === 1) return only;
    return createHash("sha256").update(digests.map((d) => `${d}\n`).join("")).digest("hex");
  }

  #holder(name: string): SafetensorsFile {
    const holder = this.#holders.get(name);
    if (holder === undefined) {
      const where = this.#files.length === 1 ? this.#files[0]?.path : undefined;
      throw new WeightsError(
        where ?? this.root,
        `has no weight "${name}" among its ${this.#holders.size} weights`,
      );
    }
    return holder;
  }
}
