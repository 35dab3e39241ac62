import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import type { AdamWState } from "../optim/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";

/** All that a run needs to go on bit for bit. Random numbers are functions of seed and step: nothing of them is kept. */
export interface Checkpoint {
  /** Iterations done. */
  readonly step: number;
  readonly parameters: Parameters;
  readonly optimizer: AdamWState;
}

const manifestSchema = z.strictObject({
  step: z.int().min(0),
  updates: z.int().min(0),
  files: z.record(z.string(), z.string()),
  metadata: z.record(z.string(), z.string()),
});

const FILES = ["lora.safetensors", "optimizer.safetensors"] as const;
const nameOf = (step: number) => `step-${String(step).padStart(6, "0")}`;

/**
 * Writes a checkpoint under `folder`: into an attempt folder of its own, flushed, with a manifest of digests last,
 * then renamed. At every instant the checkpoints that are there are whole.
 */
export async function writeCheckpoint(
  folder: string,
  { step, parameters, optimizer }: Checkpoint,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const attempt = join(folder, `.attempt-${randomUUID()}`);
  await mkdir(attempt, { recursive: true });
  try {
    await writeSafetensors(join(attempt, FILES[0]), { ...parameters }, { ...metadata });
    await writeSafetensors(join(attempt, FILES[1]), {
      ...prefixed("mean.", optimizer.mean),
      ...prefixed("square.", optimizer.square),
    });
    const files: Record<string, string> = {};
    for (const name of FILES) files[name] = await digestOf(join(attempt, name));
    const manifest = { step, updates: optimizer.updates, files, metadata };
    await writeWhole(join(attempt, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const target = join(folder, nameOf(step));
    // A resumed run writes the same bytes again: the older one goes.
    await rm(target, { recursive: true, force: true });
    await rename(attempt, target);
    await syncFolder(folder);
  } catch (error) {
    await rm(attempt, { recursive: true, force: true }).catch(() => {});
    throw error;
  }
}

/** Steps that have a whole checkpoint, ascending: a manifest is the last file to be written. */
export async function listCheckpoints(folder: string): Promise<readonly number[]> {
  const names = await readdir(folder).catch(() => []);
  return names.flatMap((n) => /^step-(\d+)$/.exec(n)?.[1] ?? []).map(Number).sort((a, b) => a - b);
}

/** The checkpoint of a step. Throws when a file is missing or its digest is not the manifest's. */
export async function readCheckpoint(folder: string, step: number): Promise<Checkpoint> {
  const path = join(folder, nameOf(step));
  const manifest = manifestSchema.parse(
    JSON.parse(await readFile(join(path, "manifest.json"), "utf8")),
  );
  for (const name of FILES) {
    const found = await digestOf(join(path, name));
    if (found !== manifest.files[name]) {
      throw new Error(
        `Checkpoint ${path}: ${name} has sha256 ${found}, expected ${manifest.files[name]}`,
      );
    }
  }
  const parameters = await readAll(join(path, FILES[0]));
  const moments = await readAll(join(path, FILES[1]));
  return {
    step: manifest.step,
    parameters,
    optimizer: {
      updates: manifest.updates,
      mean: stripped("mean.", moments, Object.keys(parameters)),
      square: stripped("square.", moments, Object.keys(parameters)),
    },
  };
}

/** The metadata a checkpoint was written with. */
export async function readProvenance(
  folder: string,
  step: number,
): Promise<Readonly<Record<string, string>>> {
  return (await readManifest(join(folder, nameOf(step)))).metadata;
}

async function readManifest(path: string) {
  return manifestSchema.parse(JSON.parse(await readFile(join(path, "manifest.json"), "utf8")));
}

/** The newest checkpoint that is whole and unharmed; `undefined` where there is none. */
export async function newestCheckpoint(folder: string): Promise<Checkpoint | undefined> {
  for (const step of (await listCheckpoints(folder)).toReversed()) {
    try {
      return await readCheckpoint(folder, step);
    } catch {
      // Harmed: an older one serves, and the steps since are done again.
    }
  }
  return undefined;
}

/** Removes what interrupted attempts left behind. */
export async function removeAttempts(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (name.startsWith(".attempt-")) {
      await rm(join(folder, name), { recursive: true, force: true });
    }
  }
}

/** Writes a file so that it is either whole or not there, and flushed. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.${randomUUID()}.partial`;
  const file = await open(partial, "w");
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(partial, path);
}

async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder; there a rename is durable without this.
  const handle = await open(folder, "r").catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

async function readAll(path: string): Promise<Parameters> {
  const file = openSafetensors(path);
  const out: Record<string, Float32Tensor> = {};
  for (const name of file.tensors.keys()) out[name] = await file.readFloat32(name);
  return out;
}

async function digestOf(path: string): Promise<string> {
  return createHash("sha256").update(await readFile(path)).digest("hex");
}

function prefixed(prefix: string, parameters: Parameters): Parameters {
  return Object.fromEntries(Object.entries(parameters).map(([n, t]) => [prefix + n, t]));
}

/** In the order of `names`, so that sums over parameters do not depend on a file's order. */
function stripped(prefix: string, tensors: Parameters, names: readonly string[]): Parameters {
  return Object.fromEntries(names.map((name) => {
    const tensor = tensors[prefix + name];
    if (tensor === undefined) throw new Error(`Optimizer state lacks ${prefix}${name}`);
    return [name, tensor];
  }));
}
