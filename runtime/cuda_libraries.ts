import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Version of the runtime, which its CUDA provider must have as well. */
export const RUNTIME_VERSION = "1.30.0";

/** Where `drtune gpu setup` puts what provider "cuda" needs beside the driver; below it `lib`, the libraries. */
export const CUDA_FOLDER = fileURLToPath(new URL("../.cache/cuda/", import.meta.url));

/** The provider's two libraries, which the runtime looks for beside itself and nowhere else. */
export const CUDA_PROVIDER = [
  "libonnxruntime_providers_shared.so",
  "libonnxruntime_providers_cuda.so",
] as const;

/**
 * NVIDIA's libraries, each behind those it needs. cuDNN opens its parts, which lie beside it, and nvrtc by itself. The
 * driver's own, libcuda.so.1, is the system's.
 */
export const CUDA_LIBRARIES = [
  "libcudart.so.13",
  "libcublasLt.so.13",
  "libcublas.so.13",
  "libcurand.so.10",
  "libnvrtc.so.13",
  "libcudnn.so.9",
] as const;

/** The folder of onnxruntime-node's libraries for this machine. Throws where the package has none. */
export function bindingFolder(): string {
  const bin = join(dirname(fileURLToPath(import.meta.resolve("onnxruntime-node"))), "../bin");
  const [napi = ""] = readdirSync(bin).filter((name) => name.startsWith("napi-v"));
  const folder = join(bin, napi, Deno.build.os, Deno.build.arch === "x86_64" ? "x64" : "arm64");
  if (!existsSync(folder)) throw new Error(`onnxruntime-node has no libraries in ${folder}`);
  return folder;
}

let isDone = false;

/**
 * Loads NVIDIA's libraries from `CUDA_FOLDER` into this process, once. The provider names them without a path and has no
 * run path; the loader then takes those of these names that are loaded already. What is not in the folder is left to the
 * system, as is everything where `drtune gpu setup` never ran.
 */
export function loadCudaLibraries(): void {
  if (isDone || Deno.build.os !== "linux") return;
  isDone = true;
  for (const name of CUDA_LIBRARIES) {
    const path = join(CUDA_FOLDER, "lib", name);
    // Never closed: the provider uses it for as long as the process lives.
    if (existsSync(path)) Deno.dlopen(path, {});
  }
}
