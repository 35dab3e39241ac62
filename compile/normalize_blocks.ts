import type { AttributeValues } from "../autodiff/infer/mod.ts";
import { type Builder, sizeOf, type Value } from "../autodiff/mod.ts";

/** What the gradient of a group normalization reads: x and dy [B, C, ...], scale and bias [C]. */
export interface GroupNormOperands {
  readonly x: Value;
  readonly scale: Value;
  readonly bias: Value;
  readonly dy: Value;
}

/**
 * The gradients of `GroupNormalization` by x, scale and bias, group by group: each is normalized again, so that nothing
 * is kept but x, and what lies between x and its gradient never leaves the cache.
 */
export function groupNormGradientInBlocks(
  b: Builder,
  { x, scale, bias, dy }: GroupNormOperands,
  { num_groups: groups, epsilon, activation }: AttributeValues["GroupNormalizationGrad"],
): readonly Value[] {
  const [batch = 1, channels = 1] = x.shape;
  const [wide, size] = [channels / groups, sizeOf(x.shape) / (batch * channels)];
  const byGroup = (v: Value) => b.reshape(v, [batch * groups, wide, size]);
  const perChannel = (v: Value) =>
    b.reshape(b.expand(b.reshape(v, [1, channels]), [batch, channels]), [batch * groups, wide, 1]);
  const rows = [byGroup(x), byGroup(dy), perChannel(scale), perChannel(bias)];
  const made = b.scan({ rows }, (b, { rows: [x, dy, scale, bias] }) => {
    if (x === undefined || dy === undefined || scale === undefined || bias === undefined) {
      throw new RangeError("A group has no values");
    }
    const meanOf = (v: Value) => b.mean(v, { axes: [0, 1] });
    const centred = b.sub(x, meanOf(x));
    const invStd = b.reciprocal(b.sqrt(b.add(meanOf(b.mul(centred, centred)), epsilon)));
    const normalized = b.mul(centred, invStd);
    const g = activation === "silu"
      ? b.mul(dy, siluSlope(b, b.add(b.mul(normalized, scale), bias)))
      : dy;
    const sums = b.sum(g, { axes: [1] });
    const products = b.sum(b.mul(g, normalized), { axes: [1] });
    // With s = scale / σ: dx = s g - mean(s g) - x̂ mean(s g ∘ x̂).
    const slopes = b.mul(scale, invStd);
    const share = (v: Value) => b.mul(b.sum(b.mul(slopes, v), { axes: [0, 1] }), 1 / (wide * size));
    const along = b.mul(normalized, share(products));
    const dx = b.sub(b.sub(b.mul(g, slopes), along), share(sums));
    return { rows: [dx, products, sums] };
  });
  return made.map((v, i) => {
    if (i === 0) return b.reshape(v, x.shape);
    return b.sum(b.reshape(v, [batch, channels]), { axes: [0], keepDims: false });
  });
}

/** d silu(z) / dz. */
function siluSlope(b: Builder, z: Value): Value {
  const s = b.sigmoid(z);
  return b.mul(s, b.add(b.mul(z, b.sub(1, s)), 1));
}
