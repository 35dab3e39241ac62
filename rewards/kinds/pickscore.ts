import { z } from "zod";
import { rewardKind } from "../_reward_kind.ts";
import { clipScore, clipTextFields, openClipOf } from "./_clip_score.ts";

/**
 * PickScore: a CLIP tuned on human choices, to be maximised. `scale: "logit"` (default) is exp(logit_scale) times the
 * cosine, about 20 to 24 as published; `"cosine"` leaves the factor out, as the DRTune paper's tables do.
 */
export const pickscore = rewardKind({
  schema: z.strictObject({
    kind: z.literal("pickscore"),
    ...clipTextFields,
    scale: z.enum(["logit", "cosine"]).default("logit"),
  }),
  open: async (config, context) => {
    const model = await openClipOf(config, context);
    return clipScore(model, {
      factor: config.scale === "logit" ? model.logitScale : 1,
      tokenizer: config.tokenizer && context.resolve(config.tokenizer),
    });
  },
});
