import { BYTES_PER_ELEMENT, sizeOf } from "../../autodiff/mod.ts";
import type { StoredWeight, WeightTable } from "../weight_scope.ts";
import type { WeightSource } from "../weights/mod.ts";

/** transformers' names, up to the block number, and open_clip's. */
const NAMES: readonly (readonly [string, string])[] = [
  ["vision_model.embeddings.class_embedding", "visual.class_embedding"],
  ["vision_model.embeddings.patch_embedding.", "visual.conv1."],
  ["vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"],
  ["vision_model.pre_layrnorm.", "visual.ln_pre."],
  ["vision_model.encoder.layers.", "visual.transformer.resblocks."],
  ["vision_model.post_layernorm.", "visual.ln_post."],
  ["visual_projection.weight", "visual.proj"],
  ["text_model.embeddings.token_embedding.", "token_embedding."],
  ["text_model.embeddings.position_embedding.weight", "positional_embedding"],
  ["text_model.encoder.layers.", "transformer.resblocks."],
  ["text_model.final_layer_norm.", "ln_final."],
  ["text_projection.weight", "text_projection"],
  ["logit_scale", "logit_scale"],
  [".layer_norm1.", ".ln_1."],
  [".layer_norm2.", ".ln_2."],
  [".mlp.fc1.", ".mlp.c_fc."],
  [".mlp.fc2.", ".mlp.c_proj."],
  [".self_attn.out_proj.", ".attn.out_proj."],
  [".self_attn.q_proj.", ".attn.in_proj_"],
  [".self_attn.k_proj.", ".attn.in_proj_"],
  [".self_attn.v_proj.", ".attn.in_proj_"],
];

const FUSED = ["q_proj", "k_proj", "v_proj"];

/**
 * An open_clip state dict under transformers' names, so that one builder serves both. The fused projection of
 * attention is read as three runs of its rows, and the two projections into the joint space, which open_clip keeps as
 * [in, out], as their transposes. Nothing is copied.
 */
export function openClipWeights(source: WeightSource): WeightTable {
  return {
    has: (name) => source.has(openClipName(name)),
    get: (name) => {
      const stored = source.get(openClipName(name));
      if (name.endsWith("_projection.weight")) {
        return { ...stored, shape: stored.shape.toReversed(), transposed: true };
      }
      const part = FUSED.findIndex((p) => name.includes(`.self_attn.${p}.`));
      return part < 0 ? stored : third(stored, part);
    },
  };
}

function openClipName(name: string): string {
  return NAMES.reduce((n, [ours, theirs]) => n.replace(ours, theirs), name);
}

/** One third of the rows of a weight. */
function third(stored: StoredWeight, part: number): StoredWeight {
  const [rows = 0, ...rest] = stored.shape;
  const shape = [rows / 3, ...rest];
  const bytes = sizeOf(shape) * BYTES_PER_ELEMENT[stored.dtype];
  return { ...stored, shape, offset: stored.offset + part * bytes };
}
