import { type Dirent, readdirSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";

/** Most folders that are looked into, and places found: a permission's list is one word of a command line. */
const [MAX_FOLDERS, MAX_PLACES] = [1000, 500];

/**
 * Where a folder really is, and what the links in it lead to, down to `depth` folders below it: readers of weights resolve
 * links, as hubs keep files as links to blobs, and have to be allowed to read those places. Nothing for what is reached
 * without a link, or is not there.
 */
export function linkedPlaces(folder: string, { depth }: { readonly depth: number }): string[] {
  const places = new Set<string>();
  const seen = new Set<string>();
  const visit = (path: string, left: number): void => {
    const real = realOf(path);
    if (real === undefined) return;
    if (real !== path && places.size < MAX_PLACES) places.add(real);
    if (left < 0 || seen.has(real) || seen.size >= MAX_FOLDERS) return;
    seen.add(real);
    for (const entry of entriesOf(real)) {
      if (entry.isSymbolicLink()) visit(join(real, entry.name), left - 1);
      else if (entry.isDirectory() && left > 0) visit(join(real, entry.name), left - 1);
    }
  };
  visit(resolve(folder), depth);
  return [...places];
}

function realOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    // A link that leads nowhere.
    return undefined;
  }
}

/** Empty for a file. */
function entriesOf(path: string): readonly Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}
