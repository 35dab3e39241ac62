import { mkdir, statfs } from "node:fs/promises";
import { HubError } from "./hub.ts";

/** Left free for everything else, in bytes. */
const RESERVE = 1e9;

/**
 * Answers how much room the disk of a folder has, in bytes, and makes the folder. Throws `HubError` where that is less
 * than what is to come and a gigabyte.
 */
export async function checkSpace(folder: string, bytes: number): Promise<number> {
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes + RESERVE) return free;
  throw new HubError(
    `The disk of ${folder} has ${gigabytes(free)} GB left, expected ${
      gigabytes(bytes + RESERVE)
    } for what comes and 1 GB beside it`,
  );
}

/** "4.3". */
export function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
