import { initAdamW } from "../optim/mod.ts";
import type { Progress } from "./_pending.ts";
import { MODEL_DIGEST, START_DIGEST } from "./_provenance.ts";
import {
  type Checkpoint,
  listCheckpoints,
  moveAside,
  newestCheckpoint,
  readProvenance,
  removeAttempts,
} from "./checkpoint.ts";
import type { OpenedModel } from "./opened_model.ts";
import type { RunConfig } from "./run_config.ts";
import { RunFileError } from "./run_errors.ts";
import type { RunFolder } from "./run_folder.ts";
import type { RunLog } from "./run_log.ts";

/** Where a run goes on. */
export interface Restored {
  readonly at: Checkpoint;
  /** sha256 of the LoRA file it started from. */
  readonly startDigest: string | undefined;
}

/**
 * The newest checkpoint that is whole, or the beginning of a run that never had one. Damaged ones are moved aside, and
 * the log loses what will be done again. Throws with everything as it was where a checkpoint cannot be read, where none
 * is whole, where those that the log tells of are gone, and where the model is another.
 */
export async function restore(
  { model, readStart }: OpenedModel,
  { folder, config, log, progress }: {
    readonly folder: RunFolder;
    readonly config: RunConfig;
    readonly log: RunLog;
    readonly progress: Progress;
  },
): Promise<Restored> {
  const { checkpoints } = folder;
  const found = await newestCheckpoint(checkpoints);
  const lost = log.events.findLast((e) => e.type === "checkpoint");
  if (found === undefined && lost !== undefined) {
    throw new RunFileError(
      `Folder ${checkpoints} is empty, expected the checkpoint of step ${lost.step}`,
    );
  }
  const before = found && await readProvenance(checkpoints, found.checkpoint.step);
  if (found && before?.[MODEL_DIGEST] !== await model.digest()) {
    throw new Error(
      `The weights of model ${config.model} are not those of checkpoint ${found.checkpoint.step}`,
    );
  }
  for (const { step, reason } of found?.damaged ?? []) {
    const movedTo = `checkpoints/${await moveAside(checkpoints, step)}`;
    await log.emit({ type: "damage", step, reason, movedTo });
  }
  await removeAttempts(checkpoints);
  const step = found?.checkpoint.step ?? 0;
  progress.checkpoints = await listCheckpoints(checkpoints);
  progress.step = step;
  await log.cutBeyond(step);
  if (found) return { at: found.checkpoint, startDigest: before?.[START_DIGEST] };
  const start = await readStart?.();
  const parameters = start?.lora.tensors ?? model.initialParameters(config.seed);
  return { at: { step, parameters, optimizer: initAdamW(parameters) }, startDigest: start?.sha256 };
}
