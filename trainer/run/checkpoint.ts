import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { DamagedCheckpointError, RunFileError } from "./run_errors.ts";
import { sha256File } from "./_sha256_file.ts";
import type { AdamWState } from "../optim/mod.ts";
import { fromDisk, onDisk } from "./_disk.ts";
import { parseConfig } from "../parse_config.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import { syncFolder, writeWhole } from "./_write_whole.ts";

/** All that a run needs to go on bit for bit. Random numbers and prompts are functions of seed and step. */
export interface Checkpoint {
  /** Iterations done. */
  readonly step: number;
  readonly parameters: Parameters;
  readonly optimizer: AdamWState;
  /** The moving average of the parameters, where the run keeps one. */
  readonly average?: Parameters | undefined;
  /** What drift is measured from, where that is not the frozen model. */
  readonly reference?: Parameters | undefined;
}

/** The LoRA that a checkpoint is for: what is drawn, measured and exported. */
export function loraOf({ average, parameters }: Checkpoint): Parameters {
  return average ?? parameters;
}

const manifestSchema = z.strictObject({
  step: z.int().min(0),
  updates: z.int().min(0),
  /** sha256 (hex) of each file. */
  files: z.strictObject({
    "lora.safetensors": z.string(),
    "optimizer.safetensors": z.string(),
    "average.safetensors": z.string().exactOptional(),
    "reference.safetensors": z.string().exactOptional(),
  }),
  metadata: z.record(z.string(), z.string()),
});

const LORA = "lora.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const AVERAGE = "average.safetensors";
const REFERENCE = "reference.safetensors";
const MANIFEST = "manifest.json";
const ATTEMPT = ".attempt-";
const nameOf = (step: number) => `step-${String(step).padStart(6, "0")}`;

/**
 * Writes a checkpoint under `folder`: into an attempt folder of its own, flushed, with a manifest of digests last,
 * then renamed. At every instant the checkpoints that are there are whole; a failed attempt leaves nothing.
 */
export async function writeCheckpoint(
  folder: string,
  { step, parameters, optimizer, average, reference }: Checkpoint,
  { metadata = {}, header = {} }: {
    /** What `readProvenance` answers. */
    readonly metadata?: Readonly<Record<string, string>>;
    /** More for the LoRA file's header alone. */
    readonly header?: Readonly<Record<string, string>>;
  } = {},
): Promise<void> {
  const attempt = join(folder, `${ATTEMPT}${randomUUID()}`);
  try {
    await onDisk("checkpoint.folder", () => mkdir(attempt, { recursive: true }));
    await onDisk(
      "checkpoint.lora",
      () => writeSafetensors(join(attempt, LORA), parameters, { ...metadata, ...header }),
    );
    const moments = {
      ...prefixed("mean.", optimizer.mean),
      ...prefixed("square.", optimizer.square),
    };
    await onDisk(
      "checkpoint.optimizer",
      () => writeSafetensors(join(attempt, OPTIMIZER), moments),
    );
    const files: Record<string, string> = {
      [LORA]: await written(join(attempt, LORA)),
      [OPTIMIZER]: await written(join(attempt, OPTIMIZER)),
    };
    for (const [name, tensors] of [[AVERAGE, average], [REFERENCE, reference]] as const) {
      if (tensors === undefined) continue;
      // The average is a LoRA as the other is, with the same facts about it.
      const facts = name === AVERAGE ? { ...metadata, ...header } : {};
      await onDisk(
        "checkpoint.more",
        () => writeSafetensors(join(attempt, name), tensors, facts),
      );
      files[name] = await written(join(attempt, name));
    }
    const manifest = { step, updates: optimizer.updates, files, metadata };
    await writeWhole(join(attempt, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncFolder(attempt);
    await onDisk("checkpoint.rename", () => rename(attempt, join(folder, nameOf(step))));
    await syncFolder(folder);
  } catch (error) {
    await onDisk("checkpoint.tidy", () => rm(attempt, { recursive: true, force: true }))
      .catch(() => {});
    throw error;
  }
}

/** Steps that have a checkpoint, ascending. */
export async function listCheckpoints(folder: string): Promise<readonly number[]> {
  const names = await fromDisk(
    "checkpoints.list",
    { path: folder, absent: () => [] },
    () => readdir(folder),
  );
  return names.flatMap((n) => /^step-(\d+)$/.exec(n)?.[1] ?? []).map(Number).sort((a, b) => a - b);
}

/**
 * The checkpoint of a step. Throws `DamagedCheckpointError` where a file's bytes are proven not to be those that were
 * written, and `RunFileError` where it cannot be read for any other reason, both naming the file.
 */
export async function readCheckpoint(folder: string, step: number): Promise<Checkpoint> {
  const path = join(folder, nameOf(step));
  const { updates, files } = await readManifest(path);
  const read = async (name: keyof typeof files) => {
    const file = join(path, name);
    // The digest of the bytes comes first: what is wrong with a file that has it is no damage.
    const found = await fromDisk("checkpoint.digest", { path: file }, () => sha256File(file));
    if (found !== files[name]) {
      throw new DamagedCheckpointError(`File ${file} has sha256 ${found}, expected ${files[name]}`);
    }
    return await fromDisk("checkpoint.tensors", { path: file }, async () => {
      const source = openSafetensors(file);
      const out: Record<string, Float32Tensor> = {};
      for (const tensor of source.tensors.keys()) out[tensor] = await source.readFloat32(tensor);
      return out;
    });
  };
  const parameters = await read(LORA);
  const moments = await read(OPTIMIZER);
  const moment = (prefix: string) =>
    // In the order of the parameters, so that sums over them do not depend on a file's order.
    Object.fromEntries(
      Object.keys(parameters).map((name) => {
        const tensor = moments[prefix + name];
        if (tensor === undefined) {
          throw new RunFileError(`File ${join(path, OPTIMIZER)} lacks ${prefix}${name}`);
        }
        return [name, tensor];
      }),
    );
  return {
    step,
    parameters,
    ...(files[AVERAGE] !== undefined && { average: await read(AVERAGE) }),
    ...(files[REFERENCE] !== undefined && { reference: await read(REFERENCE) }),
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

/** A checkpoint of a folder, and newer ones that are proven to be damaged. */
export interface NewestCheckpoint {
  readonly checkpoint: Checkpoint;
  /** Newest first, with the reason. */
  readonly damaged: readonly { readonly step: number; readonly reason: string }[];
}

/**
 * The newest checkpoint that is not damaged; `undefined` where there is none of any kind. Throws `RunFileError`
 * where one cannot be read, which proves nothing, and `DamagedCheckpointError` where all are damaged: what exists is
 * never taken for nothing.
 */
export async function newestCheckpoint(folder: string): Promise<NewestCheckpoint | undefined> {
  const damaged: { step: number; reason: string }[] = [];
  for (const step of (await listCheckpoints(folder)).toReversed()) {
    try {
      return { checkpoint: await readCheckpoint(folder, step), damaged };
    } catch (error) {
      if (!(error instanceof DamagedCheckpointError)) throw error;
      damaged.push({ step, reason: error.message });
    }
  }
  if (damaged.length === 0) return undefined;
  const reasons = damaged.map(({ reason }) => reason).join("; ");
  throw new DamagedCheckpointError(`No checkpoint is whole: ${reasons}`);
}

/**
 * Moves a checkpoint out of the way, to a name beside it that no checkpoint has. Answers that name. Nothing removes
 * what was moved.
 */
export async function moveAside(folder: string, step: number): Promise<string> {
  for (let n = 1;; n++) {
    const name = `damaged-${nameOf(step)}-${n}`;
    const [from, to] = [join(folder, nameOf(step)), join(folder, name)];
    const found = await fromDisk(
      "aside.stat",
      { path: to, absent: () => undefined },
      () => stat(to),
    );
    if (found !== undefined) continue;
    await onDisk("checkpoint.aside", () => rename(from, to));
    await syncFolder(folder);
    return name;
  }
}

/** Removes what interrupted attempts to write a checkpoint left behind. */
export async function removeAttempts(folder: string): Promise<void> {
  const names = await fromDisk(
    "attempts.list",
    { path: folder, absent: () => [] },
    () => readdir(folder),
  );
  for (const name of names) {
    if (!name.startsWith(ATTEMPT)) continue;
    const left = join(folder, name);
    await onDisk("checkpoint.attempt", () => rm(left, { recursive: true, force: true }));
  }
}

async function readManifest(path: string) {
  const file = join(path, MANIFEST);
  const manifest = await fromDisk(
    "manifest.read",
    { path: file },
    async () => parseConfig(manifestSchema, JSON.parse(await readFile(file, "utf8"))),
  );
  if (nameOf(manifest.step) === basename(path)) return manifest;
  throw new RunFileError(`File ${file} is of step ${manifest.step}, expected ${basename(path)}`);
}

/** The digest of a file that was written just now. */
function written(file: string): Promise<string> {
  return fromDisk("attempt.digest", { path: file }, () => sha256File(file));
}

function prefixed(prefix: string, parameters: Parameters): Parameters {
  return Object.fromEntries(Object.entries(parameters).map(([n, t]) => [prefix + n, t]));
}
