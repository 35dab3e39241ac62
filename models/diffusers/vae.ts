import type { Builder, Value } from "../../autodiff/mod.ts";
import { conv2d, groupNorm } from "../nn.ts";
import { compose, type Segment } from "../segments.ts";
import type { WeightScope } from "../weight_scope.ts";
import { resnet, upsample } from "./_resnet.ts";
import { EPSILON, vaeAttention } from "./_vae_attention.ts";
import { givenChannels, type VaeConfig } from "./vae_config.ts";

/** Where the segments of a VAE decoder are built. */
export interface VaeContext {
  readonly b: Builder;
  readonly s: WeightScope;
}

/**
 * The decoder of diffusers' `AutoencoderKL` as its pipelines call it: decode(latents / scalingFactor + shiftFactor) / 2 + 1/2, an
 * RGB image [B, 3, F·H, F·W] of latents [B, latentChannels, H, W], nominally in [0, 1] and not clamped, since a clamp
 * stops gradients. `s` is the root of the state dict.
 */
export function vaeDecode(s: WeightScope, latents: Value, config: VaeConfig): Value {
  return compose(vaeSegments(config), { context: { b: s.b, s }, inputs: { latents } });
}

/** The decoder in segments, the first of which reads "latents". */
export function vaeSegments(config: VaeConfig): readonly Segment<VaeContext>[] {
  const { channels, layers, normGroups: groups, latentChannels } = config;
  const segments: Segment<VaeContext>[] = [];
  let h = "latents";
  const then = (name: string, build: (c: VaeContext, x: Value) => Value) => {
    const before = h;
    segments.push({ name, reads: [before], build: (c, read) => build(c, read(before)) });
    h = name;
  };
  const residual = (path: string, out: number) =>
    then(path, ({ s }, x) => resnet(s.at(path), x, { channels: out, groups, epsilon: EPSILON }));

  then("decoder.conv_in", ({ b, s }, given) => {
    const wanted = givenChannels(config);
    if (given.shape.length !== 4 || given.shape[1] !== wanted) {
      throw new RangeError(`Latents have shape [${given.shape}], expected ${wanted} channels`);
    }
    const x = config.patches === undefined ? given : unpatched(s, given, config.patches);
    const scaled = config.scalingFactor === 1 ? x : b.mul(x, 1 / config.scalingFactor);
    const z = config.shiftFactor === 0 ? scaled : b.add(scaled, config.shiftFactor);
    const quantized = config.postQuantConv
      ? conv2d(s.at("post_quant_conv"), z, { out: latentChannels, kernel: 1 })
      : z;
    return conv2d(s.at("decoder.conv_in"), quantized, { out: channels.at(-1) ?? 1, kernel: 3 });
  });
  residual("decoder.mid_block.resnets.0", channels.at(-1) ?? 1);
  if (config.middleAttention) {
    const path = "decoder.mid_block.attentions.0";
    then(path, ({ s }, x) => vaeAttention(s.at(path), x, groups));
  }
  residual("decoder.mid_block.resnets.1", channels.at(-1) ?? 1);
  for (const [i, out] of channels.toReversed().entries()) {
    const path = `decoder.up_blocks.${i}`;
    for (let j = 0; j < layers; j++) residual(`${path}.resnets.${j}`, out);
    if (i === channels.length - 1) continue;
    then(`${path}.upsamplers.0`, ({ s }, x) => {
      const [, , height = 1, width = 1] = x.shape;
      return upsample(s.at(`${path}.upsamplers.0`), x, [2 * height, 2 * width]);
    });
  }
  then("decoder.conv_out", ({ b, s }, x) => {
    const options = { groups, epsilon: EPSILON, silu: true };
    const active = groupNorm(s.at("decoder.conv_norm_out"), x, options);
    const image = conv2d(s.at("decoder.conv_out"), active, { out: 3, kernel: 3 });
    return b.add(b.mul(image, 0.5), 0.5);
  });
  return segments;
}

/**
 * Latents in patches [B, C · size², H, W], normalized by `bn`, as latents [B, C, size · H, size · W]: the normalization is
 * undone, x √(running_var + ε) + running_mean.
 */
function unpatched(
  s: WeightScope,
  x: Value,
  { size, epsilon }: { readonly size: number; readonly epsilon: number },
): Value {
  const { b } = s;
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const statistic = (name: string) => s.get(`bn.${name}`, [channels], [1, channels, 1, 1]);
  const deviation = b.sqrt(b.add(statistic("running_var"), epsilon));
  const plain = b.add(b.mul(x, deviation), statistic("running_mean"));
  const grid = b.reshape(plain, [batch, channels / size ** 2, size, size, height, width]);
  return b.reshape(b.transpose(grid, [0, 1, 4, 2, 5, 3]), [
    batch,
    channels / size ** 2,
    height * size,
    width * size,
  ]);
}
