import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fromDisk, onDisk, partOf } from "./_disk.ts";

/** Writes a file so that it is either whole or not there, and flushed. One call at a time for a path. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  try {
    const file = await onDisk("whole.open", () => open(partial, "w"));
    try {
      await onDisk("whole.write", (part) => file.writeFile(partOf(text, part)));
      await onDisk("whole.flush", () => file.sync());
    } finally {
      await file.close();
    }
    await onDisk("whole.rename", () => rename(partial, path));
    await syncFolder(dirname(path));
  } catch (error) {
    await onDisk("whole.tidy", () => rm(partial, { force: true })).catch(() => {});
    throw error;
  }
}

/** Flushes a folder's entries, so that a rename in it survives a loss of power. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder; there a rename is durable without this.
  if (Deno.build.os === "windows") return;
  const handle = await fromDisk("folder.open", { path: folder }, () => open(folder, "r"));
  try {
    await onDisk("folder.flush", () => handle.sync());
  } catch (error) {
    if (!isUnsupported(error)) throw error;
  } finally {
    await handle.close();
  }
}

/** Some file systems, as of networks, have no flush of a folder. */
function isUnsupported(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"].includes(String(error.code));
}
