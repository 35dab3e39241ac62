import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { cachedSha256 } from "./cached_sha256.ts";
import { openSafetensors } from "./safetensors_file.ts";
import { openTorchFile, type TorchFileOptions } from "./torch_file.ts";
import { copyToSafetensors } from "./write_safetensors.ts";

/**
 * The path of a safetensors file with the tensors of a PyTorch file. It is written once into `cacheDir`, under the
 * sha256 of the source and the key taken, one tensor in memory at a time; later calls find it there. Its metadata
 * names the source's digest, file name and key. Throws `WeightsError` as `openTorchFile` does.
 */
export async function cachedAsSafetensors(
  path: string,
  cacheDir: string,
  options: TorchFileOptions = {},
): Promise<string> {
  const source = openTorchFile(path, options);
  const digest = await cachedSha256(source, cacheDir);
  const { key } = options;
  const suffix = key === undefined
    ? ""
    : `-${createHash("sha256").update(key).digest("hex").slice(0, 8)}`;
  const cached = join(resolve(cacheDir), `${digest}${suffix}.safetensors`);
  if (existsSync(cached)) {
    // A damaged cache is an error here, not a surprise later.
    openSafetensors(cached);
    return cached;
  }
  mkdirSync(cacheDir, { recursive: true });
  await copyToSafetensors(cached, source, {
    format: "pt",
    source_name: basename(path),
    source_sha256: digest,
    ...(key === undefined ? {} : { source_key: key }),
  });
  return cached;
}
