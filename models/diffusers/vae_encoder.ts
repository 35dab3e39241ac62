import { Builder, type Value } from "../../autodiff/mod.ts";
import { conv2d, groupNorm } from "../nn.ts";
import { WeightScope } from "../weight_scope.ts";
import { type GraphOptions, type ModelGraph, modelGraph } from "./_model_graph.ts";
import type { Part } from "./pipeline.ts";
import { resnet } from "./_resnet.ts";
import { EPSILON, vaeAttention } from "./_vae_attention.ts";
import { type VaeConfig, vaeFactor } from "./vae_config.ts";

/**
 * The encoder of diffusers' `AutoencoderKL`: of an RGB image [B, 3, F·H, F·W] in [0, 1] the mean and then the logarithm of
 * the variance of its latents, [B, 2·latentChannels, H, W], neither shifted nor scaled. `s` is the root of the state dict.
 */
export function vaeEncode(s: WeightScope, image: Value, config: VaeConfig): Value {
  const { b } = s;
  const { channels, layers, normGroups: groups, latentChannels, middleAttention } = config;
  const residual = (path: string, x: Value, out: number) =>
    resnet(s.at(path), x, { channels: out, groups, epsilon: EPSILON });
  const [first = 1, last = 1] = [channels[0], channels.at(-1)];
  const pixels = b.sub(b.mul(image, 2), 1);
  let x = conv2d(s.at("encoder.conv_in"), pixels, { out: first, kernel: 3 });
  for (const [i, out] of channels.entries()) {
    const path = `encoder.down_blocks.${i}`;
    // A decoder has one block more at each level.
    for (let j = 0; j < layers - 1; j++) x = residual(`${path}.resnets.${j}`, x, out);
    if (i === channels.length - 1) continue;
    // diffusers pads below and at the right alone.
    const options = { out, kernel: 3, stride: 2, padding: [0, 0, 1, 1] } as const;
    x = conv2d(s.at(`${path}.downsamplers.0.conv`), x, options);
  }
  x = residual("encoder.mid_block.resnets.0", x, last);
  if (middleAttention) x = vaeAttention(s.at("encoder.mid_block.attentions.0"), x, groups);
  x = residual("encoder.mid_block.resnets.1", x, last);
  const active = groupNorm(s.at("encoder.conv_norm_out"), x, {
    groups,
    epsilon: EPSILON,
    silu: true,
  });
  const out = 2 * latentChannels;
  const moments = conv2d(s.at("encoder.conv_out"), active, { out, kernel: 3 });
  const quant = s.at("quant_conv");
  return quant.has("weight") ? conv2d(quant, moments, { out, kernel: 1 }) : moments;
}

/** Whether a VAE's files hold an encoder that is the decoder's mirror image. */
export function hasEncoder({ config, weights }: Part<VaeConfig>): boolean {
  return config.patches === undefined && weights.has("encoder.conv_in.weight");
}

/** A VAE's encoder: input `image`, output `moments`, as `vaeEncode`'s. `height` and `width` are those of the latents. */
export function encodeGraph(
  { config, weights, ...part }: Part<VaeConfig>,
  { batch, height, width, ...options }: GraphOptions & {
    readonly batch: number;
    readonly height: number;
    readonly width: number;
  },
): ModelGraph {
  const b = new Builder({ differentiable: false });
  const factor = vaeFactor(config);
  const shape = [batch, 3, factor * height, factor * width];
  const image = b.input("image", { dtype: "float32", shape });
  const moments = vaeEncode(new WeightScope(b, weights), image, config);
  return modelGraph({ config, weights, ...part }, b, {
    ...options,
    name: "VAE encoder",
    outputs: { moments },
    // It runs a few times when a run starts.
    fold: false,
  });
}
