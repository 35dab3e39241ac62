import { z } from "zod";
import { clipPreprocessing } from "../../models/clip/mod.ts";
import { rewardKind } from "../_reward_kind.ts";
import { clipScore, clipTextFields, openClipOf } from "./_clip_score.ts";

/**
 * HPS v2: a CLIP tuned on human preferences, to be maximised. `scale: "cosine"` (default) is what its package returns,
 * about 0.2 to 0.4; `"percent"` is 100 times that, as papers report it.
 */
export const hpsv2 = rewardKind({
  schema: z.strictObject({
    kind: z.literal("hpsv2"),
    ...clipTextFields,
    scale: z.enum(["cosine", "percent"]).default("cosine"),
  }),
  open: async (config, context) => {
    const model = await openClipOf(config, context);
    // Its package pads, and does the rest as OpenAI's CLIP, whatever a file beside the weights says.
    const preprocessing = {
      ...clipPreprocessing(model.config.vision.imageSize),
      resize: "within",
    } as const;
    return clipScore({ ...model, preprocessing }, {
      // It makes a float tensor of the file, and resizes that.
      files: "tensor",
      factor: config.scale === "percent" ? 100 : 1,
      tokenizer: config.tokenizer && context.resolve(config.tokenizer),
    });
  },
});
