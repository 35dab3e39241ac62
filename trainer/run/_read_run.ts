import type { RunDependencies } from "./run_dependencies.ts";
import { RunFolder } from "./run_folder.ts";
import { TrainingRun } from "./training_run.ts";

/**
 * A run as its folder tells it, queued where it had not ended; `undefined` where the folder is no run. Throws where it
 * cannot be read.
 */
export async function readRun(
  path: string,
  { id, dependencies }: { readonly id: string; readonly dependencies: RunDependencies },
): Promise<TrainingRun | undefined> {
  const folder = new RunFolder(path);
  const frozen = await folder.config();
  if (frozen === undefined) return undefined;
  const events = await folder.events();
  const run = new TrainingRun({ id, folder, ...frozen, events }, dependencies);
  await run.refresh();
  if (run.state === "stopping") {
    await run.setState("stopped", "The server ended while it stopped");
  } else if (!run.ended) {
    await run.requeue();
  }
  return run;
}
