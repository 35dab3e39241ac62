import { join } from "node:path";
import type { RecordedRun, RunEvent, RunRecorder } from "../../../trainer/mod.ts";
import type { Logger } from "../../../base/mod.ts";
import { EventFile } from "./event_file.ts";
import { configSummary, eventSummary } from "./run_summaries.ts";

/**
 * Writes a run's events for TensorBoard, into `tensorboard/` of its folder: one file each time the run starts or goes
 * on, the later ones taking back what will be done again. The run does not depend on it: what cannot be written is said
 * once in the log.
 */
export async function recordRun(
  { id, folder, config, step, events }: RecordedRun,
  { log }: { readonly log: Logger },
): Promise<RunRecorder> {
  let file: EventFile | undefined;
  const guarded = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      file = undefined;
      log.warn("TensorBoard's event file cannot be written", { run: id, error });
    }
  };
  const write = async (event: RunEvent) => {
    const shown = await eventSummary(event, folder);
    if (shown !== undefined) await file?.write([shown]);
  };
  await guarded(async () => {
    const at = new Date();
    const made = await EventFile.create(join(folder, "tensorboard"), { purgeStep: step + 1, at });
    file = made.file;
    if (made.first) await file.write([configSummary(config, at.toISOString())]);
    // Swaps stay when steps are done again. A run may have begun before it was recorded.
    const again = events.filter((e) => made.first || (e.type === "swap" && e.step > step));
    for (const event of again) await write(event);
  });
  let writing = Promise.resolve();
  return {
    record: (event) => void (writing = writing.then(() => guarded(() => write(event)))),
    close: () => writing,
  };
}
