import { isAbsolute, join, relative, sep } from "node:path";
import type { ExternalData } from "./_model_facts.ts";
import { RuntimeError } from "./errors.ts";

/**
 * Checks that every location lies inside `root`, links followed, and that its file holds the bytes it is asked for.
 * Returns `root` with its own links resolved. Throws `RuntimeError` "weights_invalid".
 */
export async function checkWeights(
  external: readonly ExternalData[],
  root: string,
): Promise<string> {
  const realRoot = await resolve(root, `Weights root '${root}' cannot be read`);
  const sizes = new Map<string, number>();
  for (const { tensor, location, offset, length } of external) {
    const size = sizes.get(location) ?? await sizeOfFile(realRoot, location, tensor);
    sizes.set(location, size);
    if (offset + length > size) {
      throw invalid(
        `Weight '${tensor}' lies at bytes ${offset} to ${offset + length} of '${location}', ` +
          `which has ${size}: the file is truncated or not the one the model was made for`,
      );
    }
  }
  return realRoot;
}

async function sizeOfFile(root: string, location: string, tensor: string): Promise<number> {
  // A backslash is a separator on Windows only, and no weight file needs one.
  const leaves = isAbsolute(location) || location.split(/[\\/]/).includes("..");
  if (location === "" || location.includes("\\") || leaves) {
    throw invalid(
      `Weight '${tensor}' lies in '${location}', expected a relative path inside the weights root`,
    );
  }
  const path = await resolve(
    join(root, location),
    `Weight '${tensor}' lies in '${location}', which cannot be read in '${root}'`,
  );
  const inside = relative(root, path);
  if (isAbsolute(inside) || inside.split(sep)[0] === "..") {
    throw invalid(
      `Weight '${tensor}' lies in '${location}', a link that leaves the weights root '${root}'`,
    );
  }
  const { isFile, size } = await Deno.stat(path);
  if (!isFile) throw invalid(`Weight '${tensor}' lies in '${location}', which is not a file`);
  return size;
}

async function resolve(path: string, message: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound ? "it does not exist" : String(cause);
    throw new RuntimeError("weights_invalid", `${message}: ${reason}`, { cause });
  }
}

function invalid(message: string): RuntimeError {
  return new RuntimeError("weights_invalid", message);
}
