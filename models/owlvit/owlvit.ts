import { join } from "node:path";
import type { Value } from "../../autodiff/mod.ts";
import { type ClipConfig, clipText, clipTextProjection, clipVision } from "../clip/mod.ts";
import { readJsonObject } from "../config.ts";
import { layerNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { openWeights, type OpenWeightsOptions, type WeightSource } from "../weights/mod.ts";
import { parseOwlVitConfig } from "./owlvit_config.ts";

/** An OWL-ViT on disk. */
export interface OwlVitModel {
  readonly config: ClipConfig;
  readonly source: WeightSource;
}

/**
 * Opens a folder of transformers' `OwlViTForObjectDetection`: `config.json` and weights. Throws `WeightsError` or
 * `ConfigError` naming the file. Digests are remembered in `cacheDir`, if given.
 */
export async function openOwlVit(
  folder: string,
  options: Pick<OpenWeightsOptions, "cacheDir"> = {},
): Promise<OwlVitModel> {
  const configPath = join(folder, "config.json");
  const config = parseOwlVitConfig(await readJsonObject(configPath), configPath);
  return { config, source: await openWeights(folder, options) };
}

/** The embedding of a query, [B, width], L2-normalised; `ids` are int64 [B, N]. `s` is the whole model's scope. */
export function owlVitQuery(s: WeightScope, ids: Value, { text }: ClipConfig): Value {
  const { b } = s;
  const tower = s.at("owlvit");
  const { pooled } = clipText(tower.at("text_model"), ids, text);
  const embedding = clipTextProjection(tower, pooled, text);
  return b.div(embedding, b.l2Norm(embedding, { axes: [-1] }));
}

/**
 * The class logit of one query per image for every patch, [B, patches], of normalised pixels [B, 3, size, size] and
 * query embeddings [B, width]. A patch is its token times the class token, both after the tower's final
 * normalization, normalised again; its logit is (cos(dense0(x), query) + shift(x)) (ELU(scale(x)) + 1).
 */
export function owlVitLogits(
  s: WeightScope,
  { pixels, query }: { readonly pixels: Value; readonly query: Value },
  { vision, text }: ClipConfig,
): Value {
  const { b } = s;
  const tower = s.at("owlvit.vision_model");
  const tokens = layerNorm(
    tower.at("post_layernorm"),
    clipVision(tower, pixels, vision),
    vision.epsilon,
  );
  const [batch = 1, count = 1] = tokens.shape;
  const [classToken, patches] = b.split(tokens, [1, count - 1], 1);
  if (classToken === undefined || patches === undefined) {
    throw new RangeError("Split has 2 outputs");
  }
  const x = layerNorm(s.at("layer_norm"), b.mul(patches, classToken), vision.epsilon);
  const head = s.at("class_head");
  const cosine = b.matMul(
    unit(b, linear(head.at("dense0"), x, text.width)),
    b.reshape(unit(b, query), [batch, text.width, 1]),
  );
  const shift = linear(head.at("logit_shift"), x, 1);
  const scale = b.add(b.elu(linear(head.at("logit_scale"), x, 1)), 1);
  return b.reshape(b.mul(b.add(cosine, shift), scale), [batch, count - 1]);
}

/** x / (‖x‖ + 1e-6), as OWL-ViT writes it. */
function unit(b: WeightScope["b"], x: Value): Value {
  return b.div(x, b.add(b.l2Norm(x, { axes: [-1] }), 1e-6));
}
