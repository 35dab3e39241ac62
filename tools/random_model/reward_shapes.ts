import type { Shape } from "../../autodiff/mod.ts";

/** One tower of a CLIP. */
export interface Tower {
  readonly width: number;
  readonly layers: number;
  readonly inner: number;
}

/** The sizes of a CLIP, or of the two towers of an OWL-ViT. */
export interface ClipSizes {
  readonly vision: Tower & { readonly image: number; readonly patch: number };
  readonly text: Tower & { readonly context: number; readonly vocabulary: number };
  /** Width of the joint space. */
  readonly joint: number;
}

type Shapes = Generator<readonly [string, Shape]>;

function* linear(path: string, [out, into]: readonly [number, number]): Shapes {
  yield [`${path}.weight`, [out, into]];
  yield [`${path}.bias`, [out]];
}

function* norm(path: string, width: number): Shapes {
  yield [`${path}.weight`, [width]];
  yield [`${path}.bias`, [width]];
}

const positions = ({ image, patch }: ClipSizes["vision"]) => (image / patch) ** 2 + 1;

function* encoder(path: string, { width, layers, inner }: Tower): Shapes {
  for (let i = 0; i < layers; i++) {
    const at = `${path}.encoder.layers.${i}`;
    for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"]) {
      yield* linear(`${at}.self_attn.${name}`, [width, width]);
    }
    yield* linear(`${at}.mlp.fc1`, [inner, width]);
    yield* linear(`${at}.mlp.fc2`, [width, inner]);
    yield* norm(`${at}.layer_norm1`, width);
    yield* norm(`${at}.layer_norm2`, width);
  }
}

/** Both towers and projections under transformers' names; the misspelt norm is how `CLIPModel` has it. */
function* towers(prefix: string, { vision, text, joint }: ClipSizes, preNorm: string): Shapes {
  const [seen, read] = [`${prefix}vision_model`, `${prefix}text_model`];
  yield [`${prefix}logit_scale`, []];
  yield [`${seen}.embeddings.class_embedding`, [vision.width]];
  yield [
    `${seen}.embeddings.patch_embedding.weight`,
    [vision.width, 3, vision.patch, vision.patch],
  ];
  yield [`${seen}.embeddings.position_embedding.weight`, [positions(vision), vision.width]];
  yield* norm(`${seen}.${preNorm}`, vision.width);
  yield* encoder(seen, vision);
  yield* norm(`${seen}.post_layernorm`, vision.width);
  yield [`${read}.embeddings.token_embedding.weight`, [text.vocabulary, text.width]];
  yield [`${read}.embeddings.position_embedding.weight`, [text.context, text.width]];
  yield* encoder(read, text);
  yield* norm(`${read}.final_layer_norm`, text.width);
  yield [`${prefix}visual_projection.weight`, [joint, vision.width]];
  yield [`${prefix}text_projection.weight`, [joint, text.width]];
}

/** transformers' `CLIPModel`. */
export function* clipShapes(sizes: ClipSizes): Shapes {
  yield* towers("", sizes, "pre_layrnorm");
}

/** transformers' `OwlViTForObjectDetection`. */
export function* owlVitShapes(sizes: ClipSizes): Shapes {
  const { vision, text } = sizes;
  yield* towers("owlvit.", sizes, "pre_layernorm");
  yield* norm("layer_norm", vision.width);
  yield* linear("class_head.dense0", [text.width, vision.width]);
  yield* linear("class_head.logit_shift", [1, vision.width]);
  yield* linear("class_head.logit_scale", [1, vision.width]);
  yield* linear("box_head.dense0", [vision.width, vision.width]);
  yield* linear("box_head.dense1", [vision.width, vision.width]);
  yield* linear("box_head.dense2", [4, vision.width]);
}

function* blocks(path: string, { width, layers, inner }: Tower): Shapes {
  for (let i = 0; i < layers; i++) {
    const at = `${path}.resblocks.${i}`;
    yield* norm(`${at}.ln_1`, width);
    yield [`${at}.attn.in_proj_weight`, [3 * width, width]];
    yield [`${at}.attn.in_proj_bias`, [3 * width]];
    yield* linear(`${at}.attn.out_proj`, [width, width]);
    yield* norm(`${at}.ln_2`, width);
    yield* linear(`${at}.mlp.c_fc`, [inner, width]);
    yield* linear(`${at}.mlp.c_proj`, [width, inner]);
  }
}

/** open_clip's `CLIP`. */
export function* openClipShapes({ vision, text, joint }: ClipSizes): Shapes {
  yield ["positional_embedding", [text.context, text.width]];
  yield ["text_projection", [text.width, joint]];
  yield ["logit_scale", []];
  yield ["visual.class_embedding", [vision.width]];
  yield ["visual.positional_embedding", [positions(vision), vision.width]];
  yield ["visual.proj", [vision.width, joint]];
  yield ["visual.conv1.weight", [vision.width, 3, vision.patch, vision.patch]];
  yield* norm("visual.ln_pre", vision.width);
  yield* blocks("visual.transformer", vision);
  yield* norm("visual.ln_post", vision.width);
  yield* blocks("transformer", text);
  yield ["token_embedding.weight", [text.vocabulary, text.width]];
  yield* norm("ln_final", text.width);
}

/** LAION's aesthetic head: linear layers with dropout between. */
export function* aestheticHeadShapes(width: number): Shapes {
  const widths = [width, 1024, 128, 64, 16, 1];
  for (const [i, layer] of [0, 2, 4, 6, 7].entries()) {
    yield* linear(`layers.${layer}`, [widths[i + 1] ?? 1, widths[i] ?? 1]);
  }
}
