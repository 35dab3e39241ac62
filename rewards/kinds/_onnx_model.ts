import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  realpathSync,
  statSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { storedTensors, type Tensor, withExternalTensors } from "../../autodiff/mod.ts";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { RewardConfigError } from "../errors.ts";

/** A model file whose large tensors lie in other files. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  /** Folder of those files. */
  readonly root: string;
  /** sha256 of the file, and of each that it refers to. */
  readonly digests: Readonly<Record<string, string>>;
}

/** The format's own limit. */
const MAX_BYTES = 2 ** 31;

/** Tensors with more elements are weights, not parts of shape arithmetic. */
const LARGE = 2 ** 14;

/**
 * Reads a model file. Tensors stored in it are kept in `cacheDir` as safetensors under the file's digest, so that all
 * sessions share them. Tensors stored beside it stay there; throws `RewardConfigError` where one lies outside the folder
 * of the model or behind a link, and `ImportError` where the file is damaged.
 */
export async function openOnnxModel(path: string, cacheDir: string): Promise<OnnxModel> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isFile()) {
    throw new RewardConfigError(`${path} ${stat ? "is not a file" : "does not exist"}`);
  }
  if (stat.size > MAX_BYTES) {
    throw new RewardConfigError(
      `${path} has ${stat.size} bytes, expected at most ${MAX_BYTES}: keep its tensors in other files`,
    );
  }
  const bytes = new Uint8Array(await readFile(path));
  const digest = createHash("sha256").update(bytes).digest("hex");
  const { inline, external } = storedTensors(bytes);
  const root = realpathSync(dirname(path));
  const found = new Map([["model", digest]]);
  for (const { file } of external.values()) {
    // The author chose the name, and "model" is taken.
    const name = file === "model" ? "./model" : file;
    if (found.has(name)) continue;
    checkNoLink(path, root, file);
    found.set(name, await sha256(join(root, file)));
  }
  const digests = Object.fromEntries(found);
  const large = [...inline].filter(([, { data }]) => data.length > LARGE);
  // Locations are all relative to one folder: with some tensors beside the model, the others stay in it.
  if (external.size > 0 || large.length === 0) return { bytes, root, digests };
  const cached = await cacheTensors(join(cacheDir, `${digest}.safetensors`), large);
  const file = basename(cached.path);
  const locations = new Map(large.map(([name]) => {
    const { fileOffset: offset } = cached.entry(name);
    return [name, { file, offset }];
  }));
  return { bytes: withExternalTensors(bytes, locations), root: dirname(cached.path), digests };
}

async function cacheTensors(path: string, tensors: readonly (readonly [string, Tensor])[]) {
  if (!existsSync(path)) {
    mkdirSync(dirname(path), { recursive: true });
    await writeSafetensors(path, Object.fromEntries(tensors));
  }
  return openSafetensors(path);
}

/** Refuses a file that is reached through a link, wherever that leads: the model's author chose the name. */
function checkNoLink(model: string, root: string, file: string): void {
  let at = root;
  for (const part of file.split("/")) {
    at = join(at, part);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found === undefined) {
      throw new RewardConfigError(`${model} keeps tensors in "${file}", which does not exist`);
    }
    if (found.isSymbolicLink()) {
      throw new RewardConfigError(`${model} keeps tensors in "${file}", which is a link`);
    }
  }
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 22 })) hash.update(chunk);
  return hash.digest("hex");
}
