import { readFile } from "node:fs/promises";
import { decodeLines } from "../../../base/mod.ts";
import { UsageError } from "../command.ts";

/** The prompts of a text file, one a line. Throws `UsageError` where it cannot be read or holds fewer than `least`. */
export async function readPrompts(path: string, least = 1): Promise<readonly string[]> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === "ENOENT" ? "does not exist" : `cannot be read: ${cause.message}`;
    throw new UsageError(`File of prompts ${path} ${why}`, { cause });
  });
  const prompts = decodeLines(bytes, path);
  if (prompts.length >= least) return prompts;
  throw new UsageError(`${path} holds ${prompts.length} prompts, expected ${least} or more`);
}
