import type { Builder, DeclaredValue, Value } from "../../autodiff/mod.ts";
import { RewardConfigError } from "../errors.ts";
import type { Extent } from "../preprocess/mod.ts";
import type { Config, Given } from "./_onnx_schema.ts";

/** Weights of red, green and blue in grey, as Pillow's conversion to "L" has them. */
const GREY: Readonly<Record<string, readonly [number, number, number]>> = {
  L: [19595 / 65536, 38470 / 65536, 7471 / 65536],
  R: [1, 0, 0],
  G: [0, 1, 0],
  B: [0, 0, 1],
};

/** Height and width that the model reads; undefined where it reads any size. */
export function extentOf(
  { name, shape }: DeclaredValue,
  { layout, size, channels: order }: Config,
): Extent | undefined {
  const [wantedHeight, wantedWidth] = typeof size === "number" ? [size, size] : size ?? [];
  const extent = (height = wantedHeight, width = wantedWidth) =>
    height === undefined || width === undefined ? undefined : { height, width };
  if (shape === undefined) return extent();
  const [, first, second, third] = shape;
  const [channels, height, width] = layout === "NCHW"
    ? [first, second, third]
    : [third, first, second];
  const count = GREY[order] === undefined ? 3 : 1;
  if (shape.length !== 4 || (typeof channels === "number" && channels !== count)) {
    throw new RewardConfigError(
      `Input "${name}" has shape [${shape.join(", ")}], expected four dimensions of which ` +
        `${layout === "NCHW" ? "the second" : "the last"} is ${count} (layout ${layout}, ` +
        `channels ${order})`,
    );
  }
  const declared = (value: unknown) => typeof value === "number" ? value : undefined;
  // A side that is left open by both is as long as the other.
  const high = declared(height) ?? wantedHeight ?? declared(width);
  const wide = declared(width) ?? wantedWidth ?? declared(height);
  const found = extent(high, wide);
  const isOther = (own: number | undefined, wanted: number | undefined) =>
    own !== undefined && wanted !== undefined && own !== wanted;
  if (isOther(high, wantedHeight) || isOther(wide, wantedWidth)) {
    throw new RewardConfigError(
      `Reward field "size" is ${JSON.stringify(size)}, the model reads ${high}x${wide}`,
    );
  }
  return found;
}

/** How many channels a model declares, where it does. */
export function channelsOf(
  { shape }: DeclaredValue,
  { layout }: Given,
): number | string | undefined {
  return shape?.[layout === "NCHW" ? 1 : 3];
}

/** Whole numbers of 8 bits for models that take those; gradients pass as if they were not rounded. */
export function rounded(b: Builder, x: Value): Value {
  return b.straightThrough(x, b.round(b.min(b.max(x, 0), 255)));
}

/** Pixels [B, 3, h, w] in [0, 1] as the model wants them. */
export function prepared(
  b: Builder,
  pixels: Value,
  { pixels: [black, white], mean, std, channels, layout }: Config,
): Value {
  const grey = GREY[channels];
  const wide = (value: Config["mean"]) => {
    if (grey !== undefined && typeof value !== "number") {
      throw new RewardConfigError(
        `Reward fields "mean" and "std" have three numbers, the model reads one channel`,
      );
    }
    const three = typeof value === "number" ? [value, value, value] : value;
    return grey === undefined
      ? b.table(three, { dtype: "float32", shape: [1, 3, 1, 1] })
      : b.scalar(three[0] ?? 0, "float32");
  };
  let x = pixels;
  if (grey !== undefined) {
    const [batch = 1, , height = 1, width = 1] = x.shape;
    const weights = b.table(grey, { dtype: "float32", shape: [1, 3] });
    const planes = b.reshape(x, [batch, 3, height * width]);
    x = b.reshape(b.matMul(weights, planes), [batch, 1, height, width]);
  }
  if (white - black !== 1) x = b.mul(x, white - black);
  if (black !== 0) x = b.add(x, black);
  if (mean !== 0) x = b.sub(x, wide(mean));
  if (std !== 1) x = b.div(x, wide(std));
  if (channels === "BGR") x = b.reverse(x, [1]);
  return layout === "NHWC" ? b.transpose(x, [0, 2, 3, 1]) : x;
}

export function valuesOf({ pixels, mean, std, channels, layout }: Config): string {
  const [black, white] = pixels;
  return [
    black === 0 && white === 1 ? "" : `pixels in ${black} to ${white}`,
    mean === 0 && std === 1 ? "" : `minus ${mean}, over ${std}`,
    channels === "RGB" ? "" : channels,
    layout === "NCHW" ? "" : layout,
  ].filter(Boolean).join(", ");
}
