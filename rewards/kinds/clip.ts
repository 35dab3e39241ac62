import { z } from "zod";
import { rewardKind } from "../_reward_kind.ts";
import { clipScore, clipTextFields, openClipOf } from "./_clip_score.ts";

/** CLIPScore: the cosine of image and prompt, to be maximised. The backbone is what the weights are. */
export const clip = rewardKind({
  schema: z.strictObject({ kind: z.literal("clip"), ...clipTextFields }),
  open: async (config, context) =>
    clipScore(await openClipOf(config, context), {
      factor: 1,
      tokenizer: config.tokenizer && context.resolve(config.tokenizer),
    }),
});
