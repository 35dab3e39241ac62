import { cpus, totalmem } from "node:os";
import type { Provider } from "../../runtime/mod.ts";
import denoJson from "../../deno.json" with { type: "json" };

/** What a worker computes on. */
export interface Hardware {
  /** Provider, processor or GPU, and runtime: equal words compute equal bits. */
  readonly name: string;
  /** Bytes that running models may take. */
  readonly memoryBytes: number;
}

const RUNTIME = denoJson.imports["onnxruntime-node"].replace("npm:", "");

/** What this process computes on with a provider. */
export async function hardwareOf(provider: Provider): Promise<Hardware> {
  const gpu = provider === "cuda" ? await firstGpu() : undefined;
  const { name, memoryBytes } = gpu ?? {
    name: cpus()[0]?.model ?? Deno.build.arch,
    memoryBytes: totalmem(),
  };
  return { name: `${provider}: ${name}, ${RUNTIME}`, memoryBytes };
}

/** The first GPU of `CUDA_VISIBLE_DEVICES` as the NVIDIA driver tells of it; `undefined` where it does not. */
async function firstGpu(): Promise<Hardware | undefined> {
  const [device = "0"] = (Deno.env.get("CUDA_VISIBLE_DEVICES") ?? "0").split(",");
  const args = [
    `--id=${device}`,
    "--query-gpu=name,driver_version,memory.total",
    "--format=csv,noheader,nounits",
  ];
  try {
    const { stdout } = await new Deno.Command("nvidia-smi", { args }).output();
    const [name, driver, mib] = new TextDecoder().decode(stdout).trim().split(", ");
    if (name === undefined || !(Number(mib) > 0)) return undefined;
    return { name: `${name}, driver ${driver}`, memoryBytes: Number(mib) * 2 ** 20 };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
