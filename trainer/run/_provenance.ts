import type { Model } from "../model/mod.ts";
import type { RunConfig } from "./run_config.ts";
import type { RunLog } from "./run_log.ts";

/** Keys of a LoRA file's metadata that a run reads again. */
export const MODEL_DIGEST = "drtune.base_model_sha256";
export const START_DIGEST = "drtune.start_lora_sha256";

/** What a LoRA file of a run says about where it comes from. */
export async function provenance(
  step: number,
  { config, log, model, startDigest }: {
    readonly config: RunConfig;
    readonly log: RunLog;
    readonly model: Model;
    /** sha256 of the LoRA file it started from. */
    readonly startDigest: string | undefined;
  },
): Promise<Readonly<Record<string, string>>> {
  const answered = log.stepOf(step)?.rewards ?? {};
  const rewards = log.mixtureOf(step).map(({ name, weight }) => ({
    name,
    weight,
    sha256: answered[name]?.digest ?? "",
  }));
  return {
    "drtune.base_model": config.model,
    [MODEL_DIGEST]: await model.digest(),
    "drtune.method": JSON.stringify(config.method),
    "drtune.rewards": JSON.stringify(rewards),
    "drtune.sampler": JSON.stringify(config.sampler),
    "drtune.guidance": JSON.stringify(config.guidance),
    "drtune.steps": String(step),
    "drtune.seed": String(config.seed),
    ...(startDigest !== undefined && { [START_DIGEST]: startDigest }),
  };
}
