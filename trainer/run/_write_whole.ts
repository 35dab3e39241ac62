import { open, rename, rm } from "node:fs/promises";

/** Writes a file so that it is either whole or not there, and flushed. One call at a time for a path. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  try {
    const file = await open(partial, "w");
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw error;
  }
}

/** Flushes a folder's entries, so that a rename in it survives a loss of power. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder; there a rename is durable without this.
  const handle = await open(folder, "r").catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}
