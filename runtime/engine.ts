import { ChildEngine, type ChildEngineOptions } from "./child_engine.ts";
import { CUDA_ENV } from "./engine_env.ts";
import type { Engine } from "./session.ts";

/** Where an engine runs its sessions. */
export type Isolation = "in-process" | "child";

/** Options of `openEngine`; those of the child process apply to isolation "child" only. */
export interface EngineOptions extends ChildEngineOptions {
  readonly isolation: Isolation;
}

/**
 * Opens an engine. ONNX Runtime is loaded only by the process that needs it.
 *
 * @example A model whose state stays in a process of its own
 * ```ts
 * import { Builder, float32 } from "../autodiff/mod.ts";
 * import { compile, CPU_TARGET } from "../compile/mod.ts";
 *
 * const b = new Builder();
 * const type = { dtype: "float32", shape: [2] } as const;
 * const next = b.add(b.input("state", type), b.input("step", type));
 * const { bytes, sessionOptions } = compile(b, { next }, CPU_TARGET);
 *
 * const engine = await openEngine({ isolation: "child" });
 * const session = await engine.load({ bytes, name: "counter" }, sessionOptions);
 * const state = engine.place("state");
 * await engine.keep(state, float32([0, 10]));
 * const step = float32([1, 1]);
 * // The sum does not leave the engine here, and does there.
 * await session.run({ state, step }, [], { keep: { next: state } });
 * const { next: last } = await session.run({ state, step });
 * if (last?.data.join() !== "2,12") throw new Error(`Found ${last?.data.join()}`);
 * await engine.close();
 * ```
 */
export async function openEngine({ isolation, ...options }: EngineOptions): Promise<Engine> {
  if (isolation === "child") return await ChildEngine.open(options);
  for (const [name, value] of Object.entries(CUDA_ENV)) Deno.env.set(name, value);
  const { InProcessEngine } = await import("./in_process_engine.ts");
  return new InProcessEngine();
}
