import { z } from "zod";
import { type Hub, HubError } from "../fetch/hub.ts";
import type { CudaWheel } from "./cuda_wheels.ts";

/** The public index of Python packages. */
const PUBLIC_INDEX = "https://pypi.org/simple";

/** The index of the environment, as pip has it: PIP_INDEX_URL, else the public one. */
export function indexOf(env: { get(name: string): string | undefined }): Hub {
  return { url: (env.get("PIP_INDEX_URL") || PUBLIC_INDEX).replace(/\/+$/, "") };
}

/** A page of the Simple Repository API (PEP 691), what is read of it. */
const pageSchema = z.object({
  files: z.array(z.object({
    filename: z.string(),
    url: z.string(),
    size: z.int().positive(),
    hashes: z.record(z.string(), z.string()),
  })),
});

/** Where a wheel lies and how large it is. Throws `HubError` where the index does not have it with the digest that is wanted. */
export async function findWheel(
  index: Hub,
  { project, file, sha256 }: CudaWheel,
  signal: AbortSignal,
): Promise<{ readonly url: string; readonly size: number }> {
  const at = `${index.url}/${project}/`;
  let page: unknown;
  try {
    const response = await fetch(at, {
      signal,
      headers: { accept: "application/vnd.pypi.simple.v1+json" },
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw new HubError(`${at} answered ${response.status}, expected a list of files`);
    }
    page = await response.json();
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HubError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError(`${at} does not answer in JSON: ${reason}`, { cause: error });
  }
  const parsed = pageSchema.safeParse(page);
  if (!parsed.success) throw new HubError(`${at} does not list files with sizes and hashes`);
  const found = parsed.data.files.find(({ filename }) => filename === file);
  if (found === undefined) throw new HubError(`${at} does not list ${file}`);
  if (found.hashes["sha256"] !== sha256) {
    throw new HubError(
      `${at} lists ${file} with sha256 ${found.hashes["sha256"] ?? "missing"}, expected ${sha256}`,
    );
  }
  return { url: new URL(found.url, at).href, size: found.size };
}
