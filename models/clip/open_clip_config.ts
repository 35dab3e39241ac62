import { z } from "zod";
import type { Shape } from "../../autodiff/mod.ts";
import { count, inert, only, parseConfig, positive } from "../config.ts";
import { WeightsError, type WeightSource } from "../weights/mod.ts";
import type { ClipActivation } from "./blocks.ts";
import type { ClipConfig, ClipImageConfig } from "./clip_config.ts";

const EPSILON = 1e-5;

/** open_clip pools at the largest token id, which is the end of text. */
const LARGEST_ID = 2;

const size = () =>
  z.union(
    [count(), z.tuple([count(), count()]).refine(([h, w]) => h === w).transform(([h]) => h)],
    {
      error: "a whole number above 0, or two equal ones",
    },
  );

const SCHEMA = z.strictObject({
  ...inert("precision", "hf_hub_id"),
  embed_dim: count(),
  quick_gelu: z.boolean("a boolean").default(false),
  custom_text: only(false).optional(),
  vision_cfg: z.strictObject({
    ...inert("patch_dropout", "output_tokens", "timm_model_pretrained"),
    image_size: size().default(224),
    patch_size: size().default(16),
    width: count().default(768),
    layers: count().default(12),
    head_width: count().default(64),
    mlp_ratio: positive().default(4),
    ls_init_value: only(null).optional(),
    attentional_pool: only(false).optional(),
    no_ln_pre: only(false).optional(),
    pos_embed_type: only("learnable").optional(),
    pool_type: only("tok").optional(),
    final_ln_after_pool: only(false).optional(),
  }),
  text_cfg: z.strictObject({
    ...inert("pad_id", "output_tokens", "tokenizer_kwargs", "hf_tokenizer_name"),
    context_length: count().default(77),
    vocab_size: count().default(49408),
    width: count().default(512),
    heads: count().default(8),
    layers: count().default(12),
    mlp_ratio: positive().default(4),
    ls_init_value: only(null).optional(),
    embed_cls: only(false).optional(),
    no_causal_mask: only(false).optional(),
    final_ln_after_pool: only(false).optional(),
    pool_type: only("argmax").optional(),
    proj_type: only("linear").optional(),
    proj_bias: only(false).optional(),
  }),
}).refine(({ vision_cfg: v }) => v.width % v.head_width === 0, {
  path: ["vision_cfg", "head_width"],
  error: "expected a divisor of width",
}).refine(({ vision_cfg: v }) => v.image_size % v.patch_size === 0, {
  path: ["vision_cfg", "patch_size"],
  error: "expected a divisor of image_size",
}).refine(({ text_cfg: t }) => t.width % t.heads === 0, {
  path: ["text_cfg", "heads"],
  error: "expected a divisor of width",
});

/**
 * Checks an open_clip model configuration: the bare one of its `model_configs` folder, or the `model_cfg` of an
 * `open_clip_config.json`. Throws `ConfigError` naming `path`, the field, what was found and what was expected.
 */
export function parseOpenClipConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipConfig {
  const wrapped = z.record(z.string(), z.unknown()).safeParse(value["model_cfg"]);
  const c = parseConfig(SCHEMA, wrapped.success ? wrapped.data : value, path);
  const { vision_cfg: v, text_cfg: t } = c;
  const activation: ClipActivation = c.quick_gelu ? "quick_gelu" : "gelu";
  const common = { activation, epsilon: EPSILON };
  return {
    projectionDim: c.embed_dim,
    vision: {
      ...common,
      width: v.width,
      imageSize: v.image_size,
      patchSize: v.patch_size,
      layers: v.layers,
      heads: v.width / v.head_width,
      // open_clip truncates here too.
      mlpWidth: Math.trunc(v.width * v.mlp_ratio),
    },
    text: {
      ...common,
      vocabSize: t.vocab_size,
      width: t.width,
      contextLength: t.context_length,
      projectionDim: c.embed_dim,
      eosTokenId: LARGEST_ID,
      layers: t.layers,
      heads: t.heads,
      mlpWidth: Math.trunc(t.width * t.mlp_ratio),
    },
  };
}

/** Head widths of open_clip's published vision towers by width, where they are not 64: H, g, bigG and e. */
const HEAD_WIDTHS: Readonly<Record<number, number>> = { 1280: 80, 1408: 88, 1664: 104, 1792: 112 };

/**
 * The configuration of an open_clip state dict without one, from the shapes of its weights. The number of heads leaves
 * no trace there: that of open_clip's published towers of the same width is taken. Nor does the activation: most
 * have the exact GELU, OpenAI's have quick GELU. Throws `WeightsError` where the shapes are not such a model's.
 */
export function inferOpenClipConfig(
  source: WeightSource,
  options: { readonly activation?: ClipActivation } = {},
): ClipConfig {
  const { projectionDim, vision } = inferOpenClipImageConfig(source, options);
  const [vocabSize = 0] = dims(source, "token_embedding.weight", 2);
  const [contextLength = 0] = dims(source, "positional_embedding", 2);
  return {
    projectionDim,
    vision,
    text: {
      ...blocks(source, "transformer", { headWidth: 64, ...options }),
      vocabSize,
      contextLength,
      projectionDim,
      eosTokenId: LARGEST_ID,
    },
  };
}

/** As `inferOpenClipConfig`, of the vision tower alone. */
export function inferOpenClipImageConfig(
  source: WeightSource,
  options: { readonly activation?: ClipActivation } = {},
): ClipImageConfig {
  const [width = 0, , patchSize = 0] = dims(source, "visual.conv1.weight", 4);
  const [positions = 0] = dims(source, "visual.positional_embedding", 2);
  const [, projectionDim = 0] = dims(source, "visual.proj", 2);
  const grid = Math.round(Math.sqrt(positions - 1));
  const headWidth = HEAD_WIDTHS[width] ?? 64;
  return {
    projectionDim,
    vision: {
      ...blocks(source, "visual.transformer", { headWidth, ...options }),
      imageSize: grid * patchSize,
      patchSize,
    },
  };
}

function dims(source: WeightSource, name: string, rank: number): Shape {
  const { shape } = source.get(name);
  if (shape.length === rank) return shape;
  throw new WeightsError(
    source.root,
    `weight "${name}" has shape [${shape}], expected ${rank} dimensions`,
  );
}

/** The residual blocks of a tower whose heads are as wide as given. */
function blocks(
  source: WeightSource,
  prefix: string,
  { headWidth, activation = "gelu" }: {
    readonly headWidth: number;
    readonly activation?: ClipActivation;
  },
) {
  const [mlpWidth = 0, width = 0] = dims(source, `${prefix}.resblocks.0.mlp.c_fc.weight`, 2);
  const numbers = source.names().filter((n) => n.startsWith(`${prefix}.resblocks.`)).map((n) =>
    Number(n.slice(prefix.length + ".resblocks.".length).split(".")[0])
  );
  if (width % headWidth !== 0) {
    throw new WeightsError(
      source.root,
      `"${prefix}" has width ${width}, which heads of ${headWidth} do not divide; ` +
        "give the model's open_clip configuration",
    );
  }
  const layers = Math.max(...numbers) + 1;
  return { width, mlpWidth, layers, heads: width / headWidth, activation, epsilon: EPSILON };
}
