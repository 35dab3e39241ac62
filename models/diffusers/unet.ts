import type { Builder, Value } from "../../autodiff/mod.ts";
import { conv2d, groupNorm, linear } from "../nn.ts";
import { compose, type Segment } from "../segments.ts";
import type { WeightScope } from "../weight_scope.ts";
import { resnet, upsample } from "./_resnet.ts";
import { rowsLike } from "./_rows_like.ts";
import { embed, sinusoids } from "./_time_embedding.ts";
import { addTokens, tokensOf, transformerBlock } from "./_transformer.ts";
import { TIME_IDS, type UNetConfig, type UNetLevel } from "./unet_config.ts";

/** What a U-Net reads. `text_embeds` and `time_ids` are SDXL's, `timestep_cond` latent consistency models', required there. */
export interface UNetInputs {
  /** Latents, [B, inChannels, H, W], any H and W. */
  readonly sample: Value;
  /** float32 [B], on the schedule's training scale; need not be whole. */
  readonly timestep: Value;
  /**
   * Text states, [R·B, N, contextWidth]: R for each sample, as both branches of guidance have, the first of each before
   * the second of any. The prediction is in this order, and what samples have in common is computed once.
   */
  readonly encoder_hidden_states: Value;
  /** Pooled text embedding, [R·B, textWidth]. */
  readonly text_embeds?: Value;
  /** float32 [R·B, 6]: original height and width, crop top and left, target height and width, in pixels. */
  readonly time_ids?: Value;
  /** The scale of guidance as `guidanceEmbedding` has it, [R·B, guidanceWidth]. */
  readonly timestep_cond?: Value;
}

/** Where the segments of a U-Net are built. */
export interface UNetContext {
  readonly b: Builder;
  readonly s: WeightScope;
}

type UNetSegment = Segment<UNetContext>;

/**
 * diffusers' `UNet2DConditionModel`: the predicted noise or velocity, [R·B, outChannels, H, W]. `s` is the root of its
 * state dict. Throws `RangeError` where an input does not fit the configuration.
 */
export function unet(
  s: WeightScope,
  inputs: UNetInputs,
  { config }: { readonly config: UNetConfig },
): Value {
  checkInputs(inputs, config);
  const [, , height = 1, width = 1] = inputs.sample.shape;
  return compose(unetSegments(config, { height, width }), {
    context: { b: s.b, s },
    inputs: { ...inputs },
  });
}

function checkInputs(
  inputs: UNetInputs,
  { inChannels, contextWidth, textTime, guidanceWidth }: UNetConfig,
): void {
  const batch = inputs.sample.shape[0] ?? 1;
  const contexts = inputs.encoder_hidden_states.shape[0] ?? 1;
  const check = (
    what: string,
    value: Value | undefined,
    expected: readonly (number | string)[],
  ) => {
    const shape = value?.shape ?? [];
    const fits = expected.every((d, i) => typeof d === "string" || d === shape[i]);
    if (shape.length === expected.length && fits) return;
    const found = value === undefined ? "are missing" : `have shape [${shape}]`;
    throw new RangeError(`${what} ${found}, expected [${expected.join(", ")}]`);
  };
  check("Latents", inputs.sample, [batch, inChannels, "height", "width"]);
  check("Timesteps", inputs.timestep, [batch]);
  const rows = contexts % batch === 0 ? contexts : batch;
  check("Text states", inputs.encoder_hidden_states, [rows, "tokens", contextWidth]);
  if (guidanceWidth !== undefined) {
    check("Embeddings of guidance", inputs.timestep_cond, [rows, guidanceWidth]);
  }
  if (textTime === undefined) return;
  check("Pooled text embeddings", inputs.text_embeds, [rows, textTime.textWidth]);
  check("Time ids", inputs.time_ids, [rows, TIME_IDS]);
}

/** A U-Net for latents of one size, in segments that read the names of `UNetInputs`. */
export function unetSegments(
  config: UNetConfig,
  size: { readonly height: number; readonly width: number },
): readonly UNetSegment[] {
  const { levels, normGroups: groups, normEpsilon: epsilon } = config;
  const segments: UNetSegment[] = [];
  const add = (name: string, reads: readonly string[], build: UNetSegment["build"]): string => {
    segments.push({ name, reads, build });
    return name;
  };

  const time = add(
    "time_embedding",
    [
      "timestep",
      ...(config.textTime ? ["text_embeds", "time_ids"] : []),
      ...(config.guidanceWidth === undefined ? [] : ["timestep_cond"]),
    ],
    (c, read) => timeEmbedding(c.s, read, config),
  );
  let h = add(
    "conv_in",
    ["sample"],
    ({ s }, read) =>
      conv2d(s.at("conv_in"), read("sample"), { out: levels[0]?.channels ?? 1, kernel: 3 }),
  );

  const residual = (path: string, { channels, skip }: { channels: number; skip?: string }) => {
    const x = h;
    h = add(path, skip === undefined ? [x, time] : [x, skip, time], ({ b, s }, read) => {
      const input = skip === undefined
        ? read(x)
        : b.concat([read(x), rowsLike(b, read(skip), read(x))], 1);
      return resnet(s.at(path), input, { channels, groups, epsilon, time: read(time) });
    });
  };
  const attention = (
    path: string,
    { heads, depth, crossAttentionOnly }: Pick<UNetLevel, "heads" | "crossAttentionOnly"> & {
      readonly depth: number | undefined;
    },
  ) => {
    const x = h;
    const stored = config.linearProjection ? "matrix" : "convolution";
    let tokens = add(
      `${path}.proj_in`,
      [x],
      ({ s }, read) => tokensOf(s.at(path), read(x), { groups, stored }),
    );
    for (let i = 0; i < (depth ?? 0); i++) {
      const before = tokens;
      const block = `${path}.transformer_blocks.${i}`;
      tokens = add(
        block,
        [before, "encoder_hidden_states"],
        ({ s }, read) =>
          transformerBlock(s.at(block), read(before), {
            context: read("encoder_hidden_states"),
            heads,
            crossAttentionOnly,
          }),
      );
    }
    h = add(
      `${path}.proj_out`,
      [x, tokens],
      ({ s }, read) => addTokens(s.at(path), read(x), { tokens: read(tokens), stored }),
    );
  };

  // The size at each level: a convolution of stride 2 rounds up.
  const sizes = levels.map((_, i) =>
    [Math.ceil(size.height / 2 ** i), Math.ceil(size.width / 2 ** i)] as const
  );
  const skips = [h];
  for (const [i, level] of levels.entries()) {
    const path = `down_blocks.${i}`;
    for (let j = 0; j < level.layers; j++) {
      residual(`${path}.resnets.${j}`, level);
      if (level.downAttention) {
        attention(`${path}.attentions.${j}`, { ...level, depth: level.downTransformers[j] });
      }
      skips.push(h);
    }
    if (i === levels.length - 1) continue;
    const x = h;
    const down = `${path}.downsamplers.0.conv`;
    h = add(
      down,
      [x],
      ({ s }, read) => conv2d(s.at(down), read(x), { out: level.channels, kernel: 3, stride: 2 }),
    );
    skips.push(h);
  }
  const bottom = levels.at(-1);
  if (bottom !== undefined && config.middle !== "none") {
    residual("mid_block.resnets.0", bottom);
    if (config.middle === "attention") {
      attention("mid_block.attentions.0", {
        heads: bottom.heads,
        depth: config.middleTransformers,
        crossAttentionOnly: false,
      });
      residual("mid_block.resnets.1", bottom);
    }
  }
  for (const [i, level] of levels.toReversed().entries()) {
    const path = `up_blocks.${i}`;
    for (let j = 0; j <= level.layers; j++) {
      const skip = skips.pop();
      if (skip === undefined) throw new RangeError("A U-Net has a skip for each layer");
      residual(`${path}.resnets.${j}`, { channels: level.channels, skip });
      if (level.upAttention) {
        attention(`${path}.attentions.${j}`, { ...level, depth: level.upTransformers[j] });
      }
    }
    const target = sizes[levels.length - 2 - i];
    if (target === undefined) continue;
    const x = h;
    h = add(
      `${path}.upsamplers.0`,
      [x],
      ({ s }, read) => upsample(s.at(`${path}.upsamplers.0`), read(x), target),
    );
  }
  const x = h;
  add("conv_out", [x, "encoder_hidden_states"], ({ b, s }, read) => {
    const active = groupNorm(s.at("conv_norm_out"), read(x), { groups, epsilon, silu: true });
    const prediction = conv2d(s.at("conv_out"), active, { out: config.outChannels, kernel: 3 });
    return rowsLike(b, prediction, read("encoder_hidden_states"));
  });
  return segments;
}

/** silu of the time embedding, which every residual block takes first; [B, timeWidth]. */
function timeEmbedding(
  s: WeightScope,
  read: (name: string) => Value,
  { levels, timeWidth, textTime, guidanceWidth, ...options }: UNetConfig,
): Value {
  const { b } = s;
  const width = levels[0]?.channels ?? 1;
  const time = sinusoids(s, read("timestep"), { width, ...options });
  const guidance = guidanceWidth === undefined ? undefined : read("timestep_cond");
  const wave = guidance === undefined ? time : b.add(
    rowsLike(b, time, guidance),
    linear(s.at("time_embedding.cond_proj"), guidance, width),
  );
  const embedded = embed(s.at("time_embedding"), wave, timeWidth);
  if (textTime === undefined) return b.silu(embedded);
  const [text, ids] = [read("text_embeds"), read("time_ids")];
  const batch = text.shape[0] ?? 1;
  const waves = sinusoids(s, b.reshape(ids, [batch * TIME_IDS]), {
    width: textTime.sizeWidth,
    ...options,
  });
  const added = b.concat([text, b.reshape(waves, [batch, TIME_IDS * textTime.sizeWidth])], 1);
  return b.silu(
    b.add(rowsLike(b, embedded, added), embed(s.at("add_embedding"), added, timeWidth)),
  );
}
