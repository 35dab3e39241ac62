import type { WeightAlias, WeightSource } from "../../weights/mod.ts";
import { numbered } from "./_numbered.ts";

/** What shapes do not say of a U-Net. */
export interface UNetHints {
  /** Heads of an attention of so many channels. */
  readonly heads: (channels: number) => number;
  readonly sampleSize: number;
  readonly upcastAttention: boolean;
}

/** A network under diffusers' names, and its `config.json`. */
export interface Renamed {
  readonly aliases: Map<string, WeightAlias>;
  readonly config: Record<string, unknown>;
}

/** A block of the U-Net's way down or up, by what its weights say. */
interface Block {
  /** As "input_blocks.4". */
  readonly path: string;
  readonly channels: number;
  /** Transformer blocks of its attention, 0 for none. */
  readonly depth: number;
  /** The module that changes the size, as "0.op" or "2.conv". */
  readonly resampler: string | undefined;
  readonly isResidual: boolean;
}

const OUTER: readonly (readonly [string, string])[] = [
  ["time_embed.0", "time_embedding.linear_1"],
  ["time_embed.2", "time_embedding.linear_2"],
  ["label_emb.0.0", "add_embedding.linear_1"],
  ["label_emb.0.2", "add_embedding.linear_2"],
  ["input_blocks.0.0", "conv_in"],
  ["out.0", "conv_norm_out"],
  ["out.2", "conv_out"],
  // Of latent consistency models, whose converters keep diffusers' name.
  ["time_embedding.cond_proj", "time_embedding.cond_proj"],
  ["time_embed.cond_proj", "time_embedding.cond_proj"],
];

const RESIDUAL: readonly (readonly [string, string])[] = [
  ["in_layers.0", "norm1"],
  ["in_layers.2", "conv1"],
  ["emb_layers.1", "time_emb_proj"],
  ["out_layers.0", "norm2"],
  ["out_layers.3", "conv2"],
  ["skip_connection", "conv_shortcut"],
];

/**
 * The U-Net of latent-diffusion's and generative-models' checkpoints (`UNetModel`) as diffusers' `UNet2DConditionModel`:
 * channels, layers, depths and widths are those of its weights. `source` holds it without a prefix.
 */
export function renamedUNet(source: WeightSource, hints: UNetHints): Renamed {
  const names = source.names();
  const shape = (name: string) => source.get(name).shape;
  const aliases = new Map<string, WeightAlias>();
  const module = (from: string, to: string) => {
    for (const end of ["weight", "bias"]) {
      if (source.has(`${from}.${end}`)) aliases.set(`${to}.${end}`, { name: `${from}.${end}` });
    }
  };
  const residual = (from: string, to: string) => {
    for (const [theirs, ours] of RESIDUAL) module(`${from}.${theirs}`, `${to}.${ours}`);
  };
  const attention = (from: string, to: string) => {
    for (const name of names) {
      if (name.startsWith(`${from}.`)) aliases.set(to + name.slice(from.length), { name });
    }
  };

  for (const [theirs, ours] of OUTER) module(theirs, ours);
  const input = numbered(names, "input_blocks").slice(1).map((i) => block(`input_blocks.${i}`));
  const down: Block[][] = [[]];
  for (const b of input) {
    if (b.isResidual) down.at(-1)?.push(b);
    else down.push([]);
    if (b.resampler === undefined) continue;
    module(`${b.path}.${b.resampler}`, `down_blocks.${down.length - 2}.downsamplers.0.conv`);
  }
  for (const [i, level] of down.entries()) {
    for (const [j, { path, depth }] of level.entries()) {
      residual(`${path}.0`, `down_blocks.${i}.resnets.${j}`);
      if (depth > 0) attention(`${path}.1`, `down_blocks.${i}.attentions.${j}`);
    }
  }
  const middle = numbered(names, "middle_block").length;
  const middleAttends = source.has("middle_block.1.proj_in.weight");
  if (middle > 0) {
    residual("middle_block.0", "mid_block.resnets.0");
    if (middleAttends) attention("middle_block.1", "mid_block.attentions.0");
    if (middle > 2) residual("middle_block.2", "mid_block.resnets.1");
  }
  const up: Block[][] = [[]];
  for (const b of numbered(names, "output_blocks").map((i) => block(`output_blocks.${i}`))) {
    const i = up.length - 1;
    const j = up[i]?.push(b) ?? 0;
    residual(`${b.path}.0`, `up_blocks.${i}.resnets.${j - 1}`);
    if (b.depth > 0) attention(`${b.path}.1`, `up_blocks.${i}.attentions.${j - 1}`);
    if (b.resampler === undefined) continue;
    module(`${b.path}.${b.resampler}`, `up_blocks.${i}.upsamplers.0.conv`);
    up.push([]);
  }

  const channels = down.map((level) => level[0]?.channels ?? 0);
  const context = names.find((name) => name.endsWith("transformer_blocks.0.attn2.to_k.weight"));
  const projection = names.find((name) => name.endsWith(".proj_in.weight"));
  const added = source.has("label_emb.0.0.weight") ? shape("label_emb.0.0.weight")[1] : undefined;
  const guidance = aliases.get("time_embedding.cond_proj.weight");
  const depths = (level: readonly Block[]) => level.map(({ depth }) => depth);
  const middleDepth = numbered(names, "middle_block.1.transformer_blocks").length;
  return {
    aliases,
    config: {
      sample_size: hints.sampleSize,
      in_channels: shape("input_blocks.0.0.weight")[1],
      out_channels: shape("out.2.weight")[0],
      block_out_channels: channels,
      layers_per_block: down.map((level) => level.length),
      down_block_types: down.map((level) =>
        depths(level).some((d) => d > 0) ? "CrossAttnDownBlock2D" : "DownBlock2D"
      ),
      up_block_types: up.map((level) =>
        depths(level).some((d) => d > 0) ? "CrossAttnUpBlock2D" : "UpBlock2D"
      ),
      mid_block_type: middle === 0
        ? null
        : middleAttends
        ? "UNetMidBlock2DCrossAttn"
        : "UNetMidBlock2D",
      // The middle takes the first depth of the last level, or its only one where that has no attention.
      transformer_layers_per_block: down.map((level, i) =>
        i === down.length - 1 && !depths(level).some((d) => d > 0) ? [middleDepth] : depths(level)
      ),
      reverse_transformer_layers_per_block: up.map(depths),
      attention_head_dim: channels.map(hints.heads),
      cross_attention_dim: context === undefined ? undefined : shape(context)[1],
      use_linear_projection: projection !== undefined && shape(projection).length === 2,
      upcast_attention: hints.upcastAttention,
      time_embedding_dim: shape("time_embed.0.weight")[0],
      ...(guidance !== undefined && { time_cond_proj_dim: shape(guidance.name)[1] }),
      ...(added !== undefined && {
        addition_embed_type: "text_time",
        addition_time_embed_dim: 256,
        projection_class_embeddings_input_dim: added,
      }),
    },
  };

  function block(path: string): Block {
    const isResidual = source.has(`${path}.0.in_layers.2.weight`);
    return {
      path,
      isResidual,
      channels: isResidual ? shape(`${path}.0.in_layers.2.weight`)[0] ?? 0 : 0,
      depth: numbered(names, `${path}.1.transformer_blocks`).length,
      resampler: ["0.op", "1.conv", "2.conv"].find((end) => source.has(`${path}.${end}.weight`)),
    };
  }
}
