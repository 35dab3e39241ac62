import { createReadStream, createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";
import { WeightFile } from "./_weight_file.ts";
import { readZipDirectory } from "./_zip.ts";
import { WeightsError } from "./weights_error.ts";

/** Ways in which a zip archive's entries are kept that are read here. */
const [STORED, DEFLATED] = [0, 8];

/**
 * Writes entries of a zip archive to files, those for which `pathOf` gives a path, and answers their paths. Each appears
 * under its path when it is whole. Throws `WeightsError` where the archive is damaged or compressed otherwise.
 */
export async function unzipMembers(
  archive: string,
  pathOf: (name: string) => string | undefined,
): Promise<readonly string[]> {
  const written: string[] = [];
  for (const [name, { position, length, method }] of readZipDirectory(new WeightFile(archive))) {
    const path = pathOf(name);
    if (path === undefined) continue;
    if (method !== STORED && method !== DEFLATED) {
      throw new WeightsError(
        archive,
        `has ${name} compressed by method ${method}, expected 0 or 8`,
      );
    }
    const part = `${path}.part`;
    try {
      await pipeline(
        createReadStream(archive, { start: position, end: position + length - 1 }),
        method === STORED ? new PassThrough() : createInflateRaw(),
        createWriteStream(part, { mode: 0o755 }),
      );
    } catch (cause) {
      await rm(part, { force: true });
      throw new WeightsError(archive, `cannot be unpacked: ${name} is damaged`, { cause });
    }
    await rename(part, path);
    written.push(path);
  }
  return written;
}
