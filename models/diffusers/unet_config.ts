import { z } from "zod";
import { checkClass, ConfigError, count, inert, only, parseConfig, positive } from "../config.ts";

/** One resolution of a U-Net, the same on the way down and up. */
export interface UNetLevel {
  readonly channels: number;
  /** Residual blocks on the way down; there is one more on the way up. */
  readonly layers: number;
  /** Attention heads; they divide `channels` where there is attention. */
  readonly heads: number;
  /** Transformer blocks of the attention after each residual block, on the way down and on the way up. */
  readonly downTransformers: readonly number[];
  readonly upTransformers: readonly number[];
  /** Both attentions of its transformer blocks read the text. */
  readonly crossAttentionOnly: boolean;
  /** Whether residual blocks are followed by attention on the way down, and on the way up. */
  readonly downAttention: boolean;
  readonly upAttention: boolean;
}

/** What SDXL adds to the time embedding. */
export interface TextTimeConfig {
  /** Width of the pooled text embedding. */
  readonly textWidth: number;
  /** Sinusoids for each of the six sizes and offsets. */
  readonly sizeWidth: number;
}

/** A conditional U-Net as Stable Diffusion 1, 2 and XL have it. */
export interface UNetConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  /** Height and width of the latents it was trained on. */
  readonly sampleSize?: readonly [number, number] | undefined;
  /** Finest first. */
  readonly levels: readonly UNetLevel[];
  readonly middle: "attention" | "residual" | "none";
  /** Transformer blocks of the middle's attention. */
  readonly middleTransformers: number;
  /** Width of the text states that attention reads. */
  readonly contextWidth: number;
  /** Width of the time embedding. */
  readonly timeWidth: number;
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
  readonly normGroups: number;
  readonly normEpsilon: number;
  /** Whether attention's outer projections are stored as matrices, not as 1x1 convolutions. */
  readonly linearProjection: boolean;
  /** Its attention overflows in float16. */
  readonly upcastAttention: boolean;
  /** Sinusoids of the scale of guidance, which latent consistency models read. */
  readonly guidanceWidth?: number | undefined;
  readonly textTime?: TextTimeConfig | undefined;
}

/** Sizes and offsets in SDXL's `time_ids`: original size, crop corner and target size, two numbers each. */
export const TIME_IDS = 6;

const perLevel = () =>
  z.union([count(), z.array(count())], "a whole number above 0, or one for each level");

const MANY = "whole numbers, one for each level or layer";
/** Transformer blocks: a number, one for each level, or for each layer of each level; 0 where there is no attention. */
const depths = () => {
  const depth = z.int().min(0).max(1024);
  return z.array(z.union([depth, z.array(depth)], MANY), MANY);
};

const WAVES = "a width of 4 to 65536";

/** All fields of diffusers' `UNet2DConditionModel` with its defaults; `only` marks what no builder here does. */
const SCHEMA = z.strictObject({
  // Blocks here have no use for the middle's own switch.
  ...inert("addition_embed_type_num_heads", "dropout", "mid_block_only_cross_attention"),
  upcast_attention: z.boolean("true, false or null").nullable().default(null),
  sample_size: z.union([count(), z.tuple([count(), count()]), z.null()], "a size or two")
    .default(null),
  in_channels: count().default(4),
  out_channels: count().default(4),
  center_input_sample: only(false).default(false),
  flip_sin_to_cos: z.boolean("true or false").default(true),
  freq_shift: z.number("a number").default(0),
  down_block_types: z.array(only("CrossAttnDownBlock2D", "DownBlock2D"), "a list").default([
    "CrossAttnDownBlock2D",
    "CrossAttnDownBlock2D",
    "CrossAttnDownBlock2D",
    "DownBlock2D",
  ]),
  mid_block_type: only("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", null)
    .default("UNetMidBlock2DCrossAttn"),
  up_block_types: z.array(only("CrossAttnUpBlock2D", "UpBlock2D"), "a list").default([
    "UpBlock2D",
    "CrossAttnUpBlock2D",
    "CrossAttnUpBlock2D",
    "CrossAttnUpBlock2D",
  ]),
  only_cross_attention: z.union(
    [z.boolean(), z.array(z.boolean())],
    "true or false, or one for each level",
  )
    .default(false),
  block_out_channels: z.array(count(), "a list").min(1, "at least one level")
    .default([320, 640, 1280, 1280]),
  layers_per_block: perLevel().default(2),
  downsample_padding: only(1).default(1),
  mid_block_scale_factor: only(1).default(1),
  act_fn: only("silu", "swish").default("silu"),
  norm_num_groups: count().default(32),
  norm_eps: positive().default(1e-5),
  cross_attention_dim: perLevel().default(1280),
  transformer_layers_per_block: z.union([count(), depths()], MANY).default(1),
  reverse_transformer_layers_per_block: depths().nullable().default(null),
  encoder_hid_dim: only(null).default(null),
  encoder_hid_dim_type: only(null).default(null),
  // The number of heads, in spite of its name (huggingface/diffusers issue 2011).
  attention_head_dim: perLevel().default(8),
  num_attention_heads: only(null).default(null),
  dual_cross_attention: only(false).default(false),
  use_linear_projection: z.boolean("true or false").default(false),
  class_embed_type: only(null).default(null),
  addition_embed_type: only(null, "text_time").default(null),
  addition_time_embed_dim: count().nullable().default(null),
  num_class_embeds: only(null).default(null),
  resnet_time_scale_shift: only("default").default("default"),
  resnet_skip_time_act: only(false).default(false),
  resnet_out_scale_factor: only(1).default(1),
  time_embedding_type: only("positional").default("positional"),
  time_embedding_dim: count().nullable().default(null),
  time_embedding_act_fn: only(null).default(null),
  timestep_post_act: only(null).default(null),
  time_cond_proj_dim: z.int(WAVES).min(4, WAVES).max(65_536, WAVES).nullable()
    .default(null),
  conv_in_kernel: only(3).default(3),
  conv_out_kernel: only(3).default(3),
  projection_class_embeddings_input_dim: count().nullable().default(null),
  attention_type: only("default").default("default"),
  class_embeddings_concat: only(false).default(false),
  cross_attention_norm: only(null).default(null),
});

/**
 * Checks a U-Net's `config.json`. Fields left out have diffusers' defaults. Throws `ConfigError` naming `path`, the
 * field, what was found and what was expected, for whatever the U-Net here does not do.
 */
export function parseUNetConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): UNetConfig {
  checkClass(value, { path, className: "UNet2DConditionModel" });
  const c = parseConfig(SCHEMA, value, path);
  const fail = (field: string, found: unknown, expected: string): never => {
    throw new ConfigError(path, `"${field}" is ${JSON.stringify(found)}, expected ${expected}`);
  };
  const n = c.block_out_channels.length;
  for (const field of ["down_block_types", "up_block_types"] as const) {
    if (c[field].length !== n) fail(field, c[field], `${n} blocks, one for each level`);
  }
  const at = <K extends keyof typeof c>(field: K, i: number): number => {
    const given = c[field];
    const one = Array.isArray(given) && given.length === n ? given[i] : given;
    return typeof one === "number" ? one : fail(field, given, `${n} numbers, one for each level`);
  };
  /** Of the residual blocks of a level: on the way down, or `reverse`, on the way up. */
  const depthsAt = (i: number, { reverse }: { readonly reverse: boolean }): readonly number[] => {
    const layers = at("layers_per_block", i) + (reverse ? 1 : 0);
    const type = reverse ? c.up_block_types[n - 1 - i] : c.down_block_types[i];
    if (!type?.startsWith("CrossAttn")) return Array.from({ length: layers }, () => 0);
    const back = reverse ? c.reverse_transformer_layers_per_block : null;
    const field = back === null
      ? "transformer_layers_per_block"
      : "reverse_transformer_layers_per_block";
    const all = c[field];
    const given = Array.isArray(all) ? all[back === null ? i : n - 1 - i] : all ?? undefined;
    if (reverse && back === null && Array.isArray(given)) {
      return fail(
        "reverse_transformer_layers_per_block",
        null,
        "a list, as transformer_layers_per_block has one for each layer",
      );
    }
    const each = typeof given === "number" ? Array.from({ length: layers }, () => given) : given;
    if (each === undefined || each.length < layers || each.slice(0, layers).includes(0)) {
      return fail(field, all, `${n} numbers above 0, or ${layers} for each layer of level ${i}`);
    }
    return each.slice(0, layers);
  };
  const levels = c.block_out_channels.map((channels, i): UNetLevel => {
    const level = {
      channels,
      layers: at("layers_per_block", i),
      heads: at("attention_head_dim", i),
      downTransformers: depthsAt(i, { reverse: false }),
      upTransformers: depthsAt(i, { reverse: true }),
      crossAttentionOnly: Array.isArray(c.only_cross_attention)
        ? c.only_cross_attention[i] ??
          fail("only_cross_attention", c.only_cross_attention, `${n} values`)
        : c.only_cross_attention,
      downAttention: c.down_block_types[i] === "CrossAttnDownBlock2D",
      upAttention: c.up_block_types[n - 1 - i] === "CrossAttnUpBlock2D",
    };
    if (channels % c.norm_num_groups !== 0) {
      fail("block_out_channels", channels, `multiples of norm_num_groups, ${c.norm_num_groups}`);
    }
    if (attends(level, i === n - 1 && c.mid_block_type) && channels % level.heads !== 0) {
      fail(
        "attention_head_dim",
        level.heads,
        `a number of heads that divides ${channels} channels`,
      );
    }
    return level;
  });
  const widths = new Set(
    levels.flatMap((level, i) =>
      attends(level, i === n - 1 && c.mid_block_type) ? [at("cross_attention_dim", i)] : []
    ),
  );
  const [contextWidth, ...otherWidths] = widths;
  if (contextWidth === undefined) {
    return fail(
      "down_block_types",
      c.down_block_types,
      "attention somewhere: nothing reads the text",
    );
  }
  if (otherWidths.length > 0) {
    fail("cross_attention_dim", c.cross_attention_dim, "one width wherever there is attention");
  }
  return {
    inChannels: c.in_channels,
    outChannels: c.out_channels,
    sampleSize: typeof c.sample_size === "number"
      ? [c.sample_size, c.sample_size]
      : c.sample_size ?? undefined,
    levels,
    middle: c.mid_block_type === null
      ? "none"
      : c.mid_block_type === "UNetMidBlock2D"
      ? "residual"
      : "attention",
    middleTransformers: c.mid_block_type === "UNetMidBlock2DCrossAttn" ? middleDepth() : 0,
    contextWidth,
    timeWidth: c.time_embedding_dim ?? 4 * (levels[0]?.channels ?? 0),
    flipSinToCos: c.flip_sin_to_cos,
    freqShift: c.freq_shift,
    normGroups: c.norm_num_groups,
    normEpsilon: c.norm_eps,
    linearProjection: c.use_linear_projection,
    upcastAttention: c.upcast_attention === true,
    guidanceWidth: c.time_cond_proj_dim ?? undefined,
    textTime: c.addition_embed_type === null ? undefined : textTime(),
  };

  function middleDepth(): number {
    const all = c.transformer_layers_per_block;
    const last = Array.isArray(all) ? all.at(-1) : all;
    const depth = Array.isArray(last) ? last[0] : last;
    return depth || fail("transformer_layers_per_block", all, "a number above 0 for the middle");
  }

  function textTime(): TextTimeConfig {
    const sizeWidth = c.addition_time_embed_dim ??
      fail("addition_time_embed_dim", null, "a width, as addition_embed_type is text_time");
    const total = c.projection_class_embeddings_input_dim;
    const textWidth = (total ?? 0) - TIME_IDS * sizeWidth;
    if (textWidth < 1) {
      fail("projection_class_embeddings_input_dim", total, `more than ${TIME_IDS * sizeWidth}`);
    }
    return { textWidth, sizeWidth };
  }
}

function attends(level: UNetLevel, middle: string | null | false): boolean {
  return level.downAttention || level.upAttention || middle === "UNetMidBlock2DCrossAttn";
}
