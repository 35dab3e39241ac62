import { createHash } from "node:crypto";
import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** A file that can be hashed. */
export interface HashedFile {
  readonly path: string;
  sha256(): Promise<string>;
}

/**
 * The sha256 of a file, remembered in `cacheDir` under what the system says of it: a file with the same place, size
 * and times of change is the same file. Hashing takes longer than anything else that loading does.
 */
export async function cachedSha256(file: HashedFile, cacheDir: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file.path, { bigint: true });
  const identity = [resolve(file.path), dev, ino, size, mtimeNs, ctimeNs].join("\n");
  const name = createHash("sha256").update(identity).digest("hex");
  const remembered = join(cacheDir, "sha256", name);
  const known = await readFile(remembered, "utf8").catch(() => "");
  if (/^[0-9a-f]{64}$/.test(known)) return known;
  const digest = await file.sha256();
  // Where it cannot be remembered, as in a container that only reads, it is computed again.
  await remember(remembered, digest).catch(() => {});
  return digest;
}

/** Writes a file whole or not at all, whoever else writes it. */
async function remember(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}
