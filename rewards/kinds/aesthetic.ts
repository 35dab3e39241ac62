import { z } from "zod";
import { RewardConfigError } from "../errors.ts";
import { rewardKind } from "../_reward_kind.ts";
import { HEAD_ACTIVATIONS, headScore, openAestheticHead } from "./_aesthetic_head.ts";
import {
  clipFields,
  clipRecipe,
  imageDirection,
  openClipImageOf,
  preprocessingIdentity,
} from "./_clip_score.ts";

/**
 * LAION's aesthetic predictor: linear layers, folded into one affine map where no activation stands between them, of the
 * L2-normalised image embedding of a CLIP (OpenAI's ViT-L/14 for the published heads), of which the vision tower is
 * enough. About 1 to 10, to be maximised.
 */
export const aesthetic = rewardKind({
  schema: z.strictObject({
    kind: z.literal("aesthetic"),
    ...clipFields,
    /** The head's `.pth` or `.safetensors` file. */
    head: z.string().min(1),
    /** What stands between the head's layers. Default: what their numbers show; see `openAestheticHead`. */
    headActivation: z.enum(HEAD_ACTIVATIONS).optional(),
  }),
  open: async (config, context) => {
    const model = await openClipImageOf(config, context);
    const headPath = context.resolve(config.head);
    const head = await openAestheticHead(headPath, {
      cacheDir: context.cacheDir,
      activation: config.headActivation,
    });
    const { projectionDim } = model.config;
    if (head.width !== projectionDim) {
      throw new RewardConfigError(
        `Head ${headPath} takes embeddings of ${head.width} numbers, the CLIP gives ${projectionDim}`,
      );
    }
    return {
      direction: "maximise",
      range: [-Infinity, Infinity],
      recipe: clipRecipe(model),
      warnings: model.warnings,
      score: (b, pixels) => headScore(b, imageDirection(b, pixels, model), head),
      weightsRoot: model.source.root,
      identity: async () => ({
        config: model.config,
        weights: await model.source.digest(),
        head: head.digest,
        ...(head.activation === "none" ? {} : { activation: head.activation }),
        ...(clipRecipe(model).fit === "crop" ? {} : { fit: clipRecipe(model).fit }),
        ...preprocessingIdentity(model),
      }),
    };
  },
});
