import { attributesOf, type AttributeValues, reach, windowOf } from "../autodiff/infer/mod.ts";
import { type Builder, int, ints, sizeOf, type Value } from "../autodiff/mod.ts";
import type { LoweringContext } from "./_lowering.ts";
import { winogradConv } from "./winograd.ts";

/**
 * A `ConvTranspose` of stride 1, the gradient of a convolution's input, as the convolution that it is: in and out channels
 * of the kernel change places and its taps are turned round. "kernel" where the policy or its geometry are against it.
 */
export function turnedConv(
  b: Builder,
  [x, w, bias]: readonly (Value | undefined)[],
  { attributes, ...context }: LoweringContext<AttributeValues["ConvTranspose"]>,
): Value | "kernel" {
  if (x === undefined || w === undefined) return "kernel";
  const [batch = 1, , ...spatial] = x.shape;
  if (batch * sizeOf(spatial) < context.policy.turnedKernels) return "kernel";
  const window = windowOf(attributes, w.shape.slice(2), spatial);
  const { kernel, strides, dilations } = window;
  // Padded to the full overlap.
  const pads = window.pads.map((p, i) => reach(window, i % kernel.length) - p);
  const { output_padding: extra = [], group } = attributes;
  const fits = strides.every((n) => n === 1) && extra.every((n) => n === 0);
  if (!fits || pads.some((p) => p < 0)) return "kernel";
  const geometry = {
    kernel_shape: ints(kernel),
    strides: ints(strides),
    dilations: ints(dilations),
    pads: ints(pads),
    group: int(group),
  };
  const swapped = swapChannels(b, w, group);
  const products = winogradConv(b, [x, swapped, bias], {
    ...context,
    attributes: attributesOf("Conv", geometry),
    isTurned: true,
  });
  if (products !== "kernel") return products;
  const turned = b.reverse(swapped, kernel.flatMap((k, i) => k > 1 ? [i + 2] : []));
  return b.call("Conv", bias === undefined ? [x, turned] : [x, turned, bias], geometry);
}

/** A kernel with each group's in and out channels swapped: [O, C/g, ...] from [C, O/g, ...]. */
function swapChannels(b: Builder, w: Value, group: number): Value {
  const [channels = 1, width = 1, ...kernel] = w.shape;
  // Where a graph is loaded, every operator of what is folded costs a copy or two.
  if (group === 1) return b.transpose(w, [1, 0, ...kernel.map((_, i) => i + 2)]);
  const axes = kernel.map((_, i) => i + 3);
  const split = b.reshape(w, [group, channels / group, width, ...kernel]);
  return b.reshape(b.transpose(split, [0, 2, 1, ...axes]), [
    group * width,
    channels / group,
    ...kernel,
  ]);
}
