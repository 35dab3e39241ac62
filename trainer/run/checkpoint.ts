import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import type { AdamWState } from "../optim/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import { ifAbsent } from "./_if_absent.ts";
import { syncFolder, writeWhole } from "./_write_whole.ts";

/** All that a run needs to go on bit for bit. Random numbers and prompts are functions of seed and step. */
export interface Checkpoint {
  /** Iterations done. */
  readonly step: number;
  readonly parameters: Parameters;
  readonly optimizer: AdamWState;
}

const manifestSchema = z.strictObject({
  step: z.int().min(0),
  updates: z.int().min(0),
  /** sha256 (hex) of each file. */
  files: z.strictObject({ "lora.safetensors": z.string(), "optimizer.safetensors": z.string() }),
  metadata: z.record(z.string(), z.string()),
});

const LORA = "lora.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const MANIFEST = "manifest.json";
const nameOf = (step: number) => `step-${String(step).padStart(6, "0")}`;

/**
 * Writes a checkpoint under `folder`: into an attempt folder of its own, flushed, with a manifest of digests last,
 * then renamed. At every instant the checkpoints that are there are whole; a failed attempt leaves nothing.
 */
export async function writeCheckpoint(
  folder: string,
  { step, parameters, optimizer }: Checkpoint,
  { metadata = {}, header = {} }: {
    /** What `readProvenance` answers. */
    readonly metadata?: Readonly<Record<string, string>>;
    /** More for the LoRA file's header alone. */
    readonly header?: Readonly<Record<string, string>>;
  } = {},
): Promise<void> {
  const attempt = join(folder, `.attempt-${randomUUID()}`);
  try {
    await mkdir(attempt, { recursive: true });
    await writeSafetensors(join(attempt, LORA), parameters, { ...metadata, ...header });
    await writeSafetensors(join(attempt, OPTIMIZER), {
      ...prefixed("mean.", optimizer.mean),
      ...prefixed("square.", optimizer.square),
    });
    const files = {
      [LORA]: await openSafetensors(join(attempt, LORA)).sha256(),
      [OPTIMIZER]: await openSafetensors(join(attempt, OPTIMIZER)).sha256(),
    };
    const manifest = { step, updates: optimizer.updates, files, metadata };
    await writeWhole(join(attempt, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncFolder(attempt);
    await rename(attempt, join(folder, nameOf(step)));
    await syncFolder(folder);
  } catch (error) {
    await rm(attempt, { recursive: true, force: true }).catch(() => {});
    throw error;
  }
}

/** Steps that have a checkpoint, ascending. */
export async function listCheckpoints(folder: string): Promise<readonly number[]> {
  const names = await readdir(folder).catch(ifAbsent([]));
  return names.flatMap((n) => /^step-(\d+)$/.exec(n)?.[1] ?? []).map(Number).sort((a, b) => a - b);
}

/** The checkpoint of a step. Throws when a file is missing or its digest is not the manifest's. */
export async function readCheckpoint(folder: string, step: number): Promise<Checkpoint> {
  const path = join(folder, nameOf(step));
  const { updates, files } = await readManifest(path);
  const read = async (name: keyof typeof files) => {
    const file = openSafetensors(join(path, name));
    const found = await file.sha256();
    if (found !== files[name]) {
      throw new Error(`Checkpoint ${path}: ${name} has sha256 ${found}, expected ${files[name]}`);
    }
    const out: Record<string, Float32Tensor> = {};
    for (const tensor of file.tensors.keys()) out[tensor] = await file.readFloat32(tensor);
    return out;
  };
  const parameters = await read(LORA);
  const moments = await read(OPTIMIZER);
  const moment = (prefix: string) =>
    // In the order of the parameters, so that sums over them do not depend on a file's order.
    Object.fromEntries(
      Object.keys(parameters).map((name) => {
        const tensor = moments[prefix + name];
        if (tensor === undefined) throw new Error(`Checkpoint ${path} lacks ${prefix}${name}`);
        return [name, tensor];
      }),
    );
  return {
    step,
    parameters,
    optimizer: { updates, mean: moment("mean."), square: moment("square.") },
  };
}

/** The metadata a checkpoint was written with. */
export async function readProvenance(
  folder: string,
  step: number,
): Promise<Readonly<Record<string, string>>> {
  return (await readManifest(join(folder, nameOf(step)))).metadata;
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

/** Removes what interrupted attempts left behind, and checkpoints of later steps, which can only be harmed ones. */
export async function removeBeyond(folder: string, step: number): Promise<void> {
  for (const name of await readdir(folder).catch(ifAbsent([]))) {
    const found = /^step-(\d+)$/.exec(name)?.[1];
    if (found === undefined ? name.startsWith(".attempt-") : Number(found) > step) {
      await rm(join(folder, name), { recursive: true, force: true });
    }
  }
}

async function readManifest(path: string) {
  return manifestSchema.parse(JSON.parse(await readFile(join(path, MANIFEST), "utf8")));
}

function prefixed(prefix: string, parameters: Parameters): Parameters {
  return Object.fromEntries(Object.entries(parameters).map(([n, t]) => [prefix + n, t]));
}
