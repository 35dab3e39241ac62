import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Room that a trainer needs to begin with. */
const PROBE_BYTES = 2 ** 16;

/**
 * Makes the folder of runs, and says what is wrong with it or with the folder of models before anything is asked: not
 * there, not to be written, or full. Throws an `Error`.
 */
export async function checkFolders(
  { models, runs }: { readonly models: string; readonly runs: string },
): Promise<void> {
  const isFolder = await stat(models).then((s) => s.isDirectory(), () => false);
  if (!isFolder) throw new Error(`Folder of models ${models} is not there`);
  const probe = join(runs, `.probe-${Deno.pid}`);
  try {
    await mkdir(runs, { recursive: true });
    await writeFile(probe, new Uint8Array(PROBE_BYTES));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Folder of runs ${runs} cannot be written: ${reason}`, { cause });
  } finally {
    await rm(probe, { force: true }).catch(() => {});
  }
}
