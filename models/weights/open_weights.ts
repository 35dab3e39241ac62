import { readdirSync, realpathSync, statSync } from "node:fs";
import { dirname, extname, join, resolve } from "node:path";
import { cachedConversion, type CachedCopy, hasFloat8 } from "./cached_as_safetensors.ts";
import { openSafetensors, SafetensorsFile } from "./safetensors_file.ts";
import { openTorchFile } from "./torch_file.ts";
import { WeightFile } from "./_weight_file.ts";
import { digestOfAll, WeightSource } from "./weight_source.ts";
import { WeightsError } from "./weights_error.ts";
import { isBesideFloat8, refuseQuantized, type StoredFile } from "./_without_float8.ts";

/** Options of `openWeights`. */
export interface OpenWeightsOptions {
  /**
   * Which variant of a folder's files to take, as "fp16" in `model.fp16.safetensors`. Without it the plain file is
   * taken, or else the only variant there is.
   */
  readonly variant?: string;
  /** Folder in which PyTorch files and float8 are kept converted, without it they are refused, and digests remembered. */
  readonly cacheDir?: string;
  /** For PyTorch files: the key under which the weights lie, e.g. "state_dict". */
  readonly key?: string;
  /** For PyTorch files: keep halves as float32; see `CachedOptions`. Default false. */
  readonly asFloat32?: boolean;
}

const TORCH_EXTENSIONS = [".pt", ".pth", ".bin", ".ckpt"];
const STEMS = ["model", "diffusion_pytorch_model", "open_clip_model"];
const MAX_INDEX_BYTES = 64 << 20;

/**
 * Opens the weights at a path: a `.safetensors` file, a `.safetensors.index.json` of shards, a PyTorch file (see
 * `cachedAsSafetensors`), or a folder holding one of these under the names that transformers, diffusers and open_clip
 * give them. Of safetensors only headers are read, unless weights are in float8, which are kept converted.
 *
 * Throws `WeightsError` when nothing or more than one candidate is found, a shard is missing or lies elsewhere, a header
 * is wrong, or weights are quantized otherwise.
 */
export async function openWeights(
  path: string,
  options: OpenWeightsOptions = {},
): Promise<WeightSource> {
  const file = chooseWeightFile(path, options);
  if (file.endsWith(".json")) return await openShards(file, options);
  const stored = openStored(file, options);
  checkQuantized([stored], file);
  if (isReadInPlace(stored)) return single(stored, { cacheDir: options.cacheDir });
  const { path: copy, digest } = await converted(stored, { ...options, files: [stored] });
  // Finding the conversion took the digest of the whole file once: it is what identifies the weights.
  return single(open(copy), { digest, source: file });
}

function openStored(path: string, { key }: Pick<OpenWeightsOptions, "key">): StoredFile {
  if (!TORCH_EXTENSIONS.includes(extname(path))) return open(path);
  return openTorchFile(path, key === undefined ? {} : { key });
}

/** Whether weights can be read where they lie. */
function isReadInPlace(file: StoredFile): file is SafetensorsFile {
  return file instanceof SafetensorsFile && !hasFloat8(file);
}

async function converted(
  file: StoredFile,
  { cacheDir, files, key, asFloat32 = false }: OpenWeightsOptions & {
    readonly files: readonly StoredFile[];
  },
): Promise<CachedCopy> {
  if (cacheDir !== undefined) {
    return await cachedConversion(file, {
      ...{ cacheDir, files, asFloat32 },
      ...(key !== undefined && { key }),
    });
  }
  throw new WeightsError(
    file.path,
    file instanceof SafetensorsFile
      ? "has weights in float8; expected wider ones, or a cacheDir to convert it in"
      : "is a PyTorch file; expected safetensors, or a cacheDir to convert it in",
  );
}

function checkQuantized(files: readonly StoredFile[], path: string): void {
  refuseQuantized(files.flatMap(({ tensors }) => [...tensors.keys()]), {
    path,
    isFloat8: (name) => files.some(({ tensors }) => tensors.get(name)?.float8 !== undefined),
  });
}

/** The file that `openWeights` would open: `path` itself, or the one it takes in a folder. */
export function chooseWeightFile(path: string, options: OpenWeightsOptions = {}): string {
  return isFolder(path) ? choose(path, options) : path;
}

function single(
  file: SafetensorsFile,
  known: ConstructorParameters<typeof WeightSource>[2],
): WeightSource {
  const holders = new Map([...file.tensors.keys()].map((name) => [name, file]));
  return new WeightSource([file], holders, known);
}

async function openShards(
  indexPath: string,
  { cacheDir, asFloat32 = false }: OpenWeightsOptions,
): Promise<WeightSource> {
  const options = { asFloat32, ...(cacheDir !== undefined && { cacheDir }) };
  const fail = (detail: string, options?: ErrorOptions): never => {
    throw new WeightsError(indexPath, detail, options);
  };
  const assigned = readIndex(indexPath, fail);
  const root = dirname(resolve(indexPath));
  const stored = new Map<string, StoredFile>();
  for (const name of [...new Set(assigned.values())].sort()) {
    // The index comes with the download: it may name files beside it, and no other.
    if (!/^[^/\\:]+\.(safetensors|bin)$/.test(name)) {
      fail(
        `names shard ${
          JSON.stringify(name)
        }, expected the plain name of a .safetensors or .bin file`,
      );
    }
    stored.set(name, openStored(join(root, name), {}));
  }
  const files = [...stored.values()];
  checkQuantized(files, indexPath);
  // All shards have to lie in one folder: where one has to be converted, the others go with it.
  const convertsAll = !files.every(isReadInPlace);
  const shards = new Map<string, SafetensorsFile>();
  const digests: string[] = [];
  for (const [name, file] of stored) {
    if (!convertsAll && isReadInPlace(file)) {
      shards.set(name, file);
      continue;
    }
    const copy = await converted(file, { ...options, files });
    shards.set(name, open(copy.path));
    digests.push(copy.digest);
  }
  const holders = new Map<string, SafetensorsFile>();
  for (const [weight, shardName] of assigned) {
    const shard = shards.get(shardName);
    if (isBesideFloat8(weight) && shard !== undefined && !shard.tensors.has(weight)) continue;
    if (!shard?.tensors.has(weight)) {
      return fail(`places weight "${weight}" in ${shardName}, which has no tensor of that name`);
    }
    holders.set(weight, shard);
  }
  const [first, ...rest] = shards.values();
  return first
    ? new WeightSource([first, ...rest], holders, {
      ...{ cacheDir, source: indexPath },
      ...(convertsAll && { digest: digestOfAll(digests) }),
    })
    : fail("names no weight");
}

function readIndex(
  path: string,
  fail: (detail: string, options?: ErrorOptions) => never,
): Map<string, string> {
  const file = new WeightFile(path);
  if (file.size > MAX_INDEX_BYTES) {
    fail(`has ${file.size} bytes, expected at most ${MAX_INDEX_BYTES} for a shard index`);
  }
  const [bytes] = file.readSmall([{ position: 0, length: file.size }]);
  let index: unknown;
  try {
    index = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    fail("is not valid JSON", { cause });
  }
  const map = typeof index === "object" && index !== null && "weight_map" in index
    ? index.weight_map
    : undefined;
  if (typeof map !== "object" || map === null) return fail("has no object weight_map");
  return new Map(
    Object.entries(map).map(([weight, shard]) =>
      typeof shard === "string"
        ? [weight, shard]
        : fail(`weight_map "${weight}" is ${JSON.stringify(shard)}, expected a file name`)
    ),
  );
}

/** Links are resolved first: hubs keep files as links to blobs, and ONNX Runtime refuses to follow them. */
function open(path: string): SafetensorsFile {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    real = path;
  }
  return openSafetensors(real);
}

interface Candidate {
  readonly name: string;
  readonly stem: string;
  readonly variant: string | undefined;
  readonly isTorch: boolean;
}

function choose(folder: string, { variant }: OpenWeightsOptions): string {
  const names = readdirSync(folder).sort();
  const parsed = names.map(parseName).filter((c) => c !== undefined);
  const safe = parsed.filter((c) => !c.isTorch);
  let chosen = candidates(safe.length > 0 ? safe : parsed, variant);
  // Other PyTorch files: whatever they are called.
  if (parsed.length === 0) chosen = names.filter((n) => TORCH_EXTENSIONS.includes(extname(n)));
  const whole = chosen.filter((name) => !name.endsWith(".json"));
  const [first, ...others] = whole.length > 0 ? whole : chosen;
  if (first === undefined) {
    const what = variant === undefined ? "weight file" : `weight file of variant "${variant}"`;
    throw new WeightsError(folder, `holds no ${what}; it holds ${names.join(", ") || "nothing"}`);
  }
  if (others.length > 0) {
    const found = [first, ...others].join(", ");
    throw new WeightsError(folder, `holds ${found}; expected one, or the path or variant to take`);
  }
  return join(folder, first);
}

function candidates(all: readonly Candidate[], variant: string | undefined): string[] {
  const plain = all.filter((c) => c.variant === undefined);
  const wanted = variant !== undefined
    ? all.filter((c) => c.variant === variant)
    : plain.length > 0
    ? plain
    : all;
  const stems = [...STEMS, "pytorch_model"];
  const known = stems.map((stem) => wanted.filter((c) => c.stem === stem));
  return (known.find((group) => group.length > 0) ?? wanted).map((c) => c.name);
}

/** Takes a file name apart; undefined for shards and for everything that is not weights or their index. */
function parseName(name: string): Candidate | undefined {
  if (/-\d{5}-of-\d{5}(\.[^.]+)?\.(safetensors|bin)$/.test(name)) return undefined;
  const safe = /^([^.]+)(?:\.([^.]+))?\.safetensors$/.exec(name) ??
    /^([^.]+)\.safetensors\.index(?:\.([^.]+))?\.json$/.exec(name);
  // Other .bin files are no weights: training programs leave states of optimizers beside them.
  const torch = /^(pytorch_model|diffusion_pytorch_model)(?:\.([^.]+))?\.bin$/.exec(name) ??
    /^(pytorch_model|diffusion_pytorch_model)\.bin\.index(?:\.([^.]+))?\.json$/.exec(name);
  const match = safe ?? torch;
  if (match?.[1] === undefined) return undefined;
  return { name, stem: match[1], variant: match[2], isTorch: safe === null };
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
