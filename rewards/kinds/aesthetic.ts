import { z } from "zod";
import { RewardConfigError } from "../errors.ts";
import { rewardKind } from "../_reward_kind.ts";
import { openAffineHead } from "./_affine_head.ts";
import { clipFields, imageDirection, openClipOf } from "./_clip_score.ts";

/**
 * LAION's aesthetic predictor: linear layers without activations, folded into one affine map, of the L2-normalised image
 * embedding of a CLIP (OpenAI's ViT-L/14 for the published head). About 1 to 10, to be maximised.
 */
export const aesthetic = rewardKind({
  schema: z.strictObject({
    kind: z.literal("aesthetic"),
    ...clipFields,
    /** The head's `.pth` or `.safetensors` file. */
    head: z.string().min(1),
  }),
  open: async (config, context) => {
    const model = await openClipOf(config, context);
    const headPath = context.resolve(config.head);
    const head = await openAffineHead(headPath, context.cacheDir);
    const { projectionDim, vision } = model.config;
    if (head.weight.length !== projectionDim) {
      throw new RewardConfigError(
        `Head ${headPath} takes embeddings of ${head.weight.length} numbers, the CLIP gives ${projectionDim}`,
      );
    }
    return {
      direction: "maximise",
      range: [-Infinity, Infinity],
      recipe: { fit: "crop", size: vision.imageSize },
      score: (b, pixels) => {
        const embedding = imageDirection(b, pixels, model);
        const weight = b.table(head.weight, { dtype: "float32", shape: [projectionDim, 1] });
        const score = b.add(b.matMul(embedding, weight), head.bias);
        return b.reshape(score, [pixels.shape[0] ?? 1]);
      },
      weightsRoot: model.source.root,
      identity: async () => ({
        config: model.config,
        weights: await model.source.digest(),
        head: head.digest,
      }),
    };
  },
});
