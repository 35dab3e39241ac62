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
    "drtune.reward_weights": JSON.stringify(weightsUntil(step, log)),
    "drtune.sampler": JSON.stringify(config.sampler),
    "drtune.guidance": JSON.stringify(config.guidance),
    "drtune.steps": String(step),
    "drtune.seed": String(config.seed),
    ...(startDigest !== undefined && { [START_DIGEST]: startDigest }),
  };
}

/** Which weights of each reward answered in which iterations, first and last, in order. */
function weightsUntil(last: number, { events }: RunLog) {
  const spans: { name: string; sha256: string; from: number; to: number }[] = [];
  const open = new Map<string, typeof spans[number]>();
  for (const e of events) {
    if (e.type !== "step" || e.step === 0 || e.step > last) continue;
    for (const [name, { digest }] of Object.entries(e.rewards)) {
      const known = open.get(name);
      if (known?.sha256 === digest && known.to === e.step - 1) known.to = e.step;
      else {
        const span = { name, sha256: digest, from: e.step, to: e.step };
        open.set(name, span);
        spans.push(span);
      }
    }
  }
  return spans;
}
