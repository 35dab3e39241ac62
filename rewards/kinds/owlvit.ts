import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Builder, Value } from "../../autodiff/mod.ts";
import {
  openOwlVit,
  owlVitLogits,
  owlVitPreprocessing,
  owlVitQuery,
  owlVitTopLogit,
} from "../../models/owlvit/mod.ts";
import { WeightScope } from "../../models/mod.ts";
import { openTextCodec } from "../_open_text.ts";
import { nameField, rewardKind } from "../_reward_kind.ts";
import { ofTransformers } from "./_clip_score.ts";
import { normalise, recipeOf } from "../preprocess/mod.ts";

/**
 * Objectness: how surely OWL-ViT sees what the query names, in 0 to 1, to be minimised. Of the query's class logits over
 * all patches, `aggregation: "max"` (default, the paper's) takes the greatest, which gives gradient to one patch;
 * `"smoothmax"` takes T log Σ exp(logit / T), which shares it, with T the `temperature` in logits. The score is the
 * sigmoid of that.
 */
export const owlvit = rewardKind({
  schema: z.strictObject({
    kind: z.literal("owlvit"),
    ...nameField,
    /** A folder of transformers' `OwlViTForObjectDetection`. */
    weights: z.string().min(1),
    /** Folder of the tokenizer. Default: that of the weights. */
    tokenizer: z.string().min(1).optional(),
    query: z.string().trim().min(1).max(1000).default("book"),
    aggregation: z.enum(["max", "smoothmax"]).default("max"),
    temperature: z.number().positive().default(0.25),
  }),
  open: async ({ weights, tokenizer, query, aggregation, temperature }, { resolve, cacheDir }) => {
    const modelFolder = resolve(weights);
    const { config, source, preprocessing } = await openOwlVit(modelFolder, { cacheDir });
    const codec = openTextCodec(
      { tokenizer: tokenizer && resolve(tokenizer), modelFolder },
      { ...config.text, layout: "hf" },
    );
    const isUsual = isDeepStrictEqual(preprocessing, owlVitPreprocessing(config));
    return {
      direction: "minimise",
      range: [0, 1],
      recipe: {
        ...recipeOf(preprocessing, config.vision.imageSize),
        ...ofTransformers(preprocessing),
      },
      text: {
        ...codec,
        embed: (b, ids) => owlVitQuery(new WeightScope(b, source), ids, config),
        query,
      },
      score: (b, pixels, embedding) => {
        if (embedding === undefined) throw new RangeError("Objectness needs a query's embedding");
        const s = new WeightScope(b, source);
        const seen = { pixels: normalise(b, pixels, preprocessing), query: embedding };
        return b.sigmoid(
          aggregation === "max"
            ? owlVitTopLogit(s, seen, config)
            : smoothMax(b, owlVitLogits(s, seen, config), temperature),
        );
      },
      weightsRoot: source.root,
      identity: async () => ({
        config,
        query,
        aggregation,
        ...(aggregation === "max" ? {} : { temperature }),
        weights: await source.digest(),
        ...(isUsual ? {} : { preprocessing }),
        tokenizer: codec.digest,
      }),
    };
  },
});

/** T log Σ exp(x / T) over the last axis of x [B, N]. */
function smoothMax(b: Builder, x: Value, temperature: number): Value {
  // Taking a constant out of the sum keeps the exponentials in range and cancels in the gradient.
  const top = b.stopGradient(b.maxOf(x, { axes: [1] }));
  const scaled = b.mul(b.sub(x, top), 1 / temperature);
  const sum = b.sum(b.exp(scaled), { axes: [1] });
  return b.reshape(b.add(b.mul(b.log(sum), temperature), top), [x.shape[0] ?? 1]);
}
