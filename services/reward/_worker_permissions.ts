import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { linkedPlaces } from "../launch/mod.ts";
import type { WorkerSettings } from "./_worker_messages.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What sharp reads at its start, and Deno throws where it may not. */
const ENV = ["MALLOC_ARENA_MAX", "PKG_CONFIG_PATH", "SHARP_*", "npm_package_config_libvips"];

/**
 * Deno's permission flags of a reward's process: it reads the files and folders that its record names and the project's
 * own, writes converted weights, and loads the project's native packages. No network, no programs.
 */
export function workerPermissions(
  record: Readonly<Record<string, unknown>>,
  { baseDir, cacheDir }: WorkerSettings,
): readonly string[] {
  const list = (values: readonly string[]) =>
    [...new Set(values)].map((value) => value.replaceAll(",", ",,")).join(",");
  return [
    `--allow-read=${
      list([ROOT, cacheDir, "/proc/self", "/usr/bin/ldd", ...namedFolders(record, baseDir)])
    }`,
    `--allow-write=${list([cacheDir])}`,
    `--allow-ffi=${list([`${ROOT}node_modules`, `${ROOT}.cache/cuda`])}`,
    "--allow-sys=getPriority",
    `--allow-env=${
      list([...ENV, "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUDA_DEVICE_ORDER"])
    }`,
  ];
}

/**
 * The folders that a record's texts name, where they are there, and those of files: shards lie beside their index. With
 * them where they really are, and what the links in them lead to.
 */
function namedFolders(value: unknown, baseDir: string): string[] {
  if (typeof value === "string") {
    const path = resolve(baseDir, value);
    try {
      const folder = statSync(path).isDirectory() ? path : dirname(path);
      return [folder, ...linkedPlaces(folder, { depth: 0 })];
    } catch {
      // No file, or one that the load says is missing.
      return [];
    }
  }
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap((one) => namedFolders(one, baseDir));
}
