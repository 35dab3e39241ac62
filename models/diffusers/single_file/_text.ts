import type { WeightAlias, WeightSource } from "../../weights/mod.ts";
import { numbered } from "./_numbered.ts";
import type { Renamed } from "./_unet.ts";

const OUTER: readonly (readonly [string, string])[] = [
  ["token_embedding.weight", "embeddings.token_embedding.weight"],
  ["positional_embedding", "embeddings.position_embedding.weight"],
  ["ln_final.weight", "final_layer_norm.weight"],
  ["ln_final.bias", "final_layer_norm.bias"],
];

const BLOCK: readonly (readonly [string, string])[] = [
  ["ln_1", "layer_norm1"],
  ["ln_2", "layer_norm2"],
  ["mlp.c_fc", "mlp.fc1"],
  ["mlp.c_proj", "mlp.fc2"],
  ["attn.out_proj", "self_attn.out_proj"],
];

/** A text encoder that has transformers' names already, with or without "text_model". `source` holds it without a prefix. */
export function transformersText(source: WeightSource): Renamed {
  const names = source.names();
  const inner = names.some((name) => name.startsWith("text_model.")) ? "text_model." : "";
  const layers = numbered(names, `${inner}encoder.layers`).length;
  const shape = (name: string) => source.get(inner + name).shape;
  const aliases = new Map(names.map((name) => [name, { name }]));
  return {
    aliases,
    config: {
      ...ofEmbeddings(
        shape("embeddings.token_embedding.weight"),
        shape("embeddings.position_embedding.weight"),
      ),
      intermediate_size: shape("encoder.layers.0.mlp.fc1.weight")[0],
      num_hidden_layers: layers,
      hidden_act: "quick_gelu",
    },
  };
}

/** Blocks of the tower that Stable Diffusion 2 was trained with. */
const BLOCKS_OF_2 = 24;

/**
 * An open_clip text tower under transformers' names. Stable Diffusion 2 is `isPenultimate`: it reads the state before the
 * last, normalized, so that the last block is left out. Files that were made of a diffusers folder do not have it any more,
 * nor the projection behind it.
 */
export function openClipText(
  source: WeightSource,
  { isPenultimate }: { readonly isPenultimate: boolean },
): Renamed {
  const aliases = new Map<string, WeightAlias>();
  const add = (ours: string, alias: WeightAlias) => {
    if (source.has(alias.name)) aliases.set(ours, alias);
  };
  for (const [theirs, ours] of OUTER) add(`text_model.${ours}`, { name: theirs });
  add("text_projection.weight", { name: "text_projection", transposed: true });
  // diffusers' own converter leaves it under transformers' name, and as it lies there.
  add("text_projection.weight", { name: "text_projection.weight" });
  const blocks = numbered(source.names(), "transformer.resblocks").length;
  const isWhole = blocks === BLOCKS_OF_2 ||
    (aliases.has("text_projection.weight") && blocks !== BLOCKS_OF_2 - 1);
  const layers = blocks - (isPenultimate && isWhole ? 1 : 0);
  for (let i = 0; i < layers; i++) {
    const [from, to] = [`transformer.resblocks.${i}`, `text_model.encoder.layers.${i}`];
    for (const end of ["weight", "bias"]) {
      for (const [theirs, ours] of BLOCK) {
        add(`${to}.${ours}.${end}`, { name: `${from}.${theirs}.${end}` });
      }
      for (const [part, name] of ["q_proj", "k_proj", "v_proj"].entries()) {
        const rows = { part, parts: 3 };
        add(`${to}.self_attn.${name}.${end}`, { name: `${from}.attn.in_proj_${end}`, rows });
      }
    }
  }
  const projection = aliases.get("text_projection.weight");
  const [rows, columns] = projection === undefined ? [] : source.get(projection.name).shape;
  const width = projection?.transposed === true ? columns : rows;
  return {
    aliases,
    config: {
      ...ofEmbeddings(
        source.get("token_embedding.weight").shape,
        source.get("positional_embedding").shape,
      ),
      intermediate_size: source.get("transformer.resblocks.0.mlp.c_fc.weight").shape[0],
      num_hidden_layers: layers,
      hidden_act: "gelu",
      ...(width !== undefined && { projection_dim: width }),
    },
  };
}

function ofEmbeddings(
  [vocabulary, width = 0]: readonly number[],
  [length]: readonly number[],
): Record<string, unknown> {
  return {
    vocab_size: vocabulary,
    hidden_size: width,
    max_position_embeddings: length,
    // CLIP's heads are 64 wide wherever they are published.
    num_attention_heads: Math.max(1, Math.floor(width / 64)),
    eos_token_id: 2,
  };
}
