import { createHash } from "node:crypto";
import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import type { Tensor } from "../../autodiff/mod.ts";
import { ConfigError, readJsonObject } from "../config.ts";
import { openSafetensors, openTorchFile } from "../weights/mod.ts";
import { LoraError } from "./lora_error.ts";
import type { LoraPart } from "./lora_parts.ts";
import { type Adapters, type LoraSource, readAdapters } from "./read_adapter.ts";

/** Adapters read from a file or folder. */
export interface LoadedLora {
  readonly adapters: Adapters;
  /** The file, or the folder where several were read. */
  readonly path: string;
  /** sha256 (hex) of the file, or of the digests of several, one a line. */
  readonly sha256: string;
  /** What its header says besides the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Names that diffusers and PEFT give a LoRA file in a folder of its own; safetensors go before pickles. */
const NAMES = [
  ["pytorch_lora_weights.safetensors", "adapter_model.safetensors"],
  ["pytorch_lora_weights.bin", "adapter_model.bin"],
] as const;
const PEFT_CONFIG = "adapter_config.json";
const TORCH_EXTENSIONS = [".bin", ".pt", ".pth", ".ckpt"];

/** Largest header or pickle of a LoRA file: 100,000 tensors and a trainer's notes fit several times. */
const MAX_HEADER_BYTES = 32 * 2 ** 20;

/**
 * Reads a LoRA of any form (see `readAdapters`): a safetensors file, a PyTorch file, which is not executed, or a folder
 * that holds one as diffusers or PEFT save it, or a PEFT folder for each network under diffusers' names. Throws
 * `LoraError` naming what does not fit, and `WeightsError` for what is no such file.
 */
export async function loadLora(path: string, parts: readonly LoraPart[]): Promise<LoadedLora> {
  const files = filesIn(path, parts);
  const loaded: LoadedLora[] = [];
  for (const { file, parts } of files) loaded.push(await loadFile(file, parts));
  const [only] = loaded;
  if (only !== undefined && loaded.length === 1) return only;
  return {
    adapters: Object.assign({}, ...loaded.map(({ adapters }) => adapters)),
    path,
    sha256: createHash("sha256").update(loaded.map((l) => `${l.sha256}\n`).join("")).digest("hex"),
    metadata: {},
  };
}

async function loadFile(file: string, parts: readonly LoraPart[]): Promise<LoadedLora> {
  const { source, sha256 } = openSource(file);
  const configPath = join(dirname(file), PEFT_CONFIG);
  const isPeft = basename(file).startsWith("adapter_model.") && existsSync(configPath);
  const config = isPeft ? { path: configPath, fields: await readConfig(configPath) } : undefined;
  const adapters = await readAdapters(source, { parts, config });
  return { adapters, path: file, sha256: await sha256(), metadata: source.metadata };
}

function openSource(
  path: string,
): { readonly source: LoraSource; readonly sha256: () => Promise<string> } {
  const real = realpathSync(path);
  if (TORCH_EXTENSIONS.includes(extname(path).toLowerCase())) {
    const file = openTorchFile(real);
    const read = (name: string): Promise<Tensor> => file.read(name);
    return {
      source: { path, tensors: file.tensors, metadata: {}, read },
      sha256: () => file.sha256(),
    };
  }
  const file = openSafetensors(real, { maxHeaderBytes: MAX_HEADER_BYTES });
  return {
    source: {
      path,
      tensors: file.tensors,
      metadata: Object.fromEntries(file.metadata),
      read: (name) => file.read(name),
    },
    sha256: () => file.sha256(),
  };
}

async function readConfig(path: string): Promise<Record<string, unknown>> {
  try {
    return await readJsonObject(path);
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    throw new LoraError(path, "is not valid JSON of an object, or too large", { cause });
  }
}

interface FoundFile {
  readonly file: string;
  readonly parts: readonly LoraPart[];
}

function filesIn(path: string, parts: readonly LoraPart[]): readonly FoundFile[] {
  if (!existsSync(path)) throw new LoraError(path, "is not there");
  if (!statSync(path).isDirectory()) return [{ file: path, parts }];
  const own = fileIn(path);
  if (own !== undefined) return [{ file: own, parts }];
  const each = parts.flatMap((part): FoundFile[] => {
    const folder = join(path, part.name);
    const file = existsSync(join(folder, PEFT_CONFIG)) ? fileIn(folder) : undefined;
    return file === undefined ? [] : [{ file, parts: [part] }];
  });
  if (each.length > 0) return each;
  throw new LoraError(path, `is a folder, expected one of ${NAMES.flat().join(", ")} in it`);
}

function fileIn(folder: string): string | undefined {
  for (const names of NAMES) {
    const found = names.filter((name) => existsSync(join(folder, name)));
    if (found.length > 1) {
      throw new LoraError(folder, `is a folder with ${found.join(" and ")}, expected one of them`);
    }
    if (found[0] !== undefined) return join(folder, found[0]);
  }
  return undefined;
}
