import { readTextToImage } from "../../models/flow/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { measureSpeed, planRun, type RunPlan, type Speed } from "../plan/mod.ts";
import { insideRoot, type OpenModelOptions } from "./open_model.ts";
import type { RunConfig } from "./run_config.ts";

/** Estimates runs before they start. The machine's speed is measured with the first of them. */
export class RunEstimator {
  readonly #options: Pick<OpenModelOptions, "root" | "session">;
  #speed: Promise<Speed> | undefined;

  constructor(options: Pick<OpenModelOptions, "root" | "session">) {
    this.#options = options;
  }

  /** @param config as `prepareRunConfig` answered it */
  async estimate(config: RunConfig): Promise<RunPlan> {
    const { root, session = {} } = this.#options;
    const pipeline = await readTextToImage(await insideRoot(root, config.model, "model"));
    this.#speed ??= measureMachine({ session });
    const speed = await this.#speed.catch((error) => {
      this.#speed = undefined;
      throw error;
    });
    return planRun(config, { pipeline, speed, provider: session.provider });
  }
}

/** How fast this machine computes, measured in a process of its own that ends with it. Options as `measureSpeed` has them. */
export async function measureMachine(
  options: Parameters<typeof measureSpeed>[1] = {},
): Promise<Speed> {
  const engine = await openEngine({ isolation: "child", name: "speed" });
  try {
    return await measureSpeed(engine, options);
  } finally {
    await engine.close();
  }
}
