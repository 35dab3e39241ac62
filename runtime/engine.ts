import { ChildEngine, type ChildEngineOptions } from "./child_engine.ts";
import { CUDA_ENV } from "./engine_env.ts";
import type { Engine } from "./session.ts";

/** Where an engine runs its sessions. */
export type Isolation = "in-process" | "child";

/** Options of `openEngine`; those of the child process apply to isolation "child" only. */
export interface EngineOptions extends ChildEngineOptions {
  readonly isolation: Isolation;
}

/** Opens an engine. ONNX Runtime is loaded only by the process that needs it. */
export async function openEngine({ isolation, ...options }: EngineOptions): Promise<Engine> {
  if (isolation === "child") return await ChildEngine.open(options);
  for (const [name, value] of Object.entries(CUDA_ENV)) Deno.env.set(name, value);
  const { InProcessEngine } = await import("./in_process_engine.ts");
  return new InProcessEngine();
}
