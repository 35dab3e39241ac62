import type { WeightAlias, WeightSource } from "../../weights/mod.ts";
import { numbered } from "./_numbered.ts";
import type { Renamed } from "./_unet.ts";

/** Converters of diffusers' folders leave its names in the attention, of today or of before 0.16. */
const ATTENTION: readonly (readonly [readonly string[], string])[] = [
  [["norm", "group_norm"], "group_norm"],
  [["q", "to_q", "query"], "to_q"],
  [["k", "to_k", "key"], "to_k"],
  [["v", "to_v", "value"], "to_v"],
  [["proj_out", "to_out.0", "proj_attn"], "to_out.0"],
];

const RESIDUAL: readonly (readonly [string, string])[] = [
  ["norm1", "norm1"],
  ["conv1", "conv1"],
  ["norm2", "norm2"],
  ["conv2", "conv2"],
  ["nin_shortcut", "conv_shortcut"],
];

/**
 * The decoder of latent-diffusion's `AutoencoderKL` as diffusers', with channels and layers of its weights. `source` holds it
 * without a prefix.
 */
export function renamedVae(source: WeightSource, scalingFactor: number): Renamed {
  const names = source.names();
  const aliases = new Map<string, WeightAlias>();
  const module = (from: string, to: string, squeezed = false) => {
    for (const end of ["weight", "bias"]) {
      const name = `${from}.${end}`;
      if (source.has(name)) {
        aliases.set(`${to}.${end}`, { name, ...(squeezed && end === "weight" && { squeezed }) });
      }
    }
  };
  const residual = (from: string, to: string) => {
    for (const [theirs, ours] of RESIDUAL) module(`${from}.${theirs}`, `${to}.${ours}`);
  };
  module("post_quant_conv", "post_quant_conv");
  module("decoder.conv_in", "decoder.conv_in");
  module("decoder.norm_out", "decoder.conv_norm_out");
  module("decoder.conv_out", "decoder.conv_out");
  for (const i of [0, 1]) residual(`decoder.mid.block_${i + 1}`, `decoder.mid_block.resnets.${i}`);
  for (const [theirs, ours] of ATTENTION) {
    const squeezed = ours !== "group_norm";
    for (const name of theirs) {
      module(`decoder.mid.attn_1.${name}`, `decoder.mid_block.attentions.0.${ours}`, squeezed);
    }
  }
  const levels = numbered(names, "decoder.up");
  const blocks = levels.map((i) => numbered(names, `decoder.up.${i}.block`));
  for (const [i, level] of levels.toReversed().entries()) {
    for (const j of blocks[level] ?? []) {
      residual(`decoder.up.${level}.block.${j}`, `decoder.up_blocks.${i}.resnets.${j}`);
    }
    module(`decoder.up.${level}.upsample.conv`, `decoder.up_blocks.${i}.upsamplers.0.conv`);
  }
  const channels = levels.map((i) => source.get(`decoder.up.${i}.block.0.conv2.weight`).shape[0]);
  return {
    aliases,
    config: {
      latent_channels: source.get("decoder.conv_in.weight").shape[1],
      out_channels: source.get("decoder.conv_out.weight").shape[0],
      block_out_channels: channels,
      up_block_types: levels.map(() => "UpDecoderBlock2D"),
      layers_per_block: (blocks[0]?.length ?? 0) - 1,
      use_post_quant_conv: source.has("post_quant_conv.weight"),
      mid_block_add_attention: aliases.has("decoder.mid_block.attentions.0.to_q.weight"),
      scaling_factor: scalingFactor,
    },
  };
}
