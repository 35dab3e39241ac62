import type { Value } from "../../autodiff/mod.ts";
import { layerNorm } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { clipBlocks, type ClipBlocksOptions } from "./blocks.ts";
import type { ClipVisionConfig } from "./vision_config.ts";

/**
 * CLIP's vision tower under transformers' names, up to the last block: patches, class token and positions, a layer
 * normalization, blocks. `s` is where `embeddings` and `encoder` lie; `pixels` are normalised, [B, 3, size, size].
 * Returns [B, 1 + patches, width], the class token first, the patches row by row, or those that `lastTokens` chooses.
 */
export function clipVision(
  s: WeightScope,
  pixels: Value,
  { config, lastTokens }: {
    readonly config: ClipVisionConfig;
    readonly lastTokens?: ClipBlocksOptions["lastTokens"];
  },
): Value {
  const { b } = s;
  const { width, imageSize, patchSize, epsilon } = config;
  const [batch = 1, channels, height, columns] = pixels.shape;
  if (
    pixels.shape.length !== 4 || channels !== 3 || height !== imageSize || columns !== imageSize
  ) {
    throw new RangeError(
      `Pixels have shape [${pixels.shape}], expected [batch, 3, ${imageSize}, ${imageSize}]`,
    );
  }
  const patches = (imageSize / patchSize) ** 2;
  const at = s.at("embeddings");
  const kernel = at.get("patch_embedding.weight", [width, 3, patchSize, patchSize]);
  const grid = b.conv2d(pixels, kernel, { stride: patchSize });
  const tokens = b.transpose(b.reshape(grid, [batch, width, patches]), [0, 2, 1]);
  const classToken = b.reshape(at.get("class_embedding", [width]), [1, 1, width]);
  const positions = at.get("position_embedding.weight", [patches + 1, width]);
  const embedded = b.add(b.concat([b.expand(classToken, [batch, 1, width]), tokens], 1), positions);
  // The first is CLIP's own misspelling; OWL-ViT has the second.
  const first = s.has("pre_layrnorm.weight") ? "pre_layrnorm" : "pre_layernorm";
  const normed = layerNorm(s.at(first), embedded, epsilon);
  const options = { config, ...(lastTokens !== undefined && { lastTokens }) };
  return clipBlocks(s.at("encoder"), normed, options).at(-1) ?? normed;
}

/** The class token after `clipVision` and the final layer normalization, [B, width]. */
export function clipVisionPooled(s: WeightScope, pixels: Value, config: ClipVisionConfig): Value {
  const token = clipVision(s, pixels, { config, lastTokens: "first" });
  const [batch = 1] = token.shape;
  return layerNorm(
    s.at("post_layernorm"),
    s.b.reshape(token, [batch, config.width]),
    config.epsilon,
  );
}
