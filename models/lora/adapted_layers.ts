import { type Builder, type Shape, sizeOf, type Value } from "../../autodiff/mod.ts";
import type { ThinPair } from "../weight_scope.ts";
import { mergedGemm, mergeIsCheaper, separateGemm } from "./_adapted_gemm.ts";

/** A layer's weight, its bias if it has one, and its adapter. */
export interface AdaptedWeights {
  /** [out, in], or [out, in, height, width] of a convolution. */
  readonly weight: Value;
  readonly bias: Value | undefined;
  readonly pair: ThinPair;
}

/** A linear layer over the last axis of x with its adapter: x Wᵀ + s (x Aᵀ) Bᵀ + bias (Hu et al., "LoRA", eq. 3). */
export function adaptedLinear(
  b: Builder,
  x: Value,
  { weight, bias, pair: given }: AdaptedWeights,
): Value {
  const [out = 1, width = 1] = weight.shape;
  const rows = sizeOf(x.shape) / width;
  const pair = matrices(b, given, { out, n: width, dtype: weight.dtype });
  const gemm = isMerged(b, { rows, pair, n: width, out }) ? mergedGemm : separateGemm;
  const y = gemm(b, { x: b.reshape(x, [rows, width]), weight, bias, pair });
  return b.reshape(y, [...x.shape.slice(0, -1), out]);
}

/** A convolution of x [B, C, H, W] with its adapter: a thin convolution, and a 1x1 one back to all channels, added. */
export function adaptedConv2d(
  b: Builder,
  x: Value,
  { weight, bias, pair: given, ...geometry }: AdaptedWeights & {
    readonly stride: number;
    readonly padding: number | readonly [number, number, number, number];
  },
): Value {
  const [out = 1, ...inner] = weight.shape;
  const n = sizeOf(inner);
  const pair = matrices(b, given, { out, n, dtype: weight.dtype });
  const withBias = bias === undefined ? {} : { bias };
  const [batch = 1, , height = 1, width = 1] = x.shape;
  const rows = Math.ceil(batch * height * width / geometry.stride ** 2);
  if (isMerged(b, { rows, pair, n, out })) {
    const merged = b.gemm(pair.b, pair.a, {
      alpha: pair.scale,
      bias: b.reshape(weight, [out, n]),
    });
    return b.conv2d(x, b.reshape(merged, weight.shape), { ...geometry, ...withBias });
  }
  const rank = pair.a.shape[0] ?? 1;
  const thin = b.conv2d(x, b.reshape(pair.a, [rank, ...inner]), geometry);
  const added = b.conv2d(thin, b.reshape(b.mul(pair.b, pair.scale), [out, rank, 1, 1]));
  return b.add(b.conv2d(x, weight, { ...geometry, ...withBias }), added);
}

/** A and B as matrices [rank, n] and [out, rank]. */
function matrices(
  b: Builder,
  pair: ThinPair,
  { out, n, dtype }: { readonly out: number; readonly n: number; readonly dtype: Value["dtype"] },
): ThinPair {
  const rank = pair.a.shape[0] ?? 1;
  const matrix = (v: Value, shape: Shape) =>
    b.reshape(b.cast(v, dtype), v.shape.join() === shape.join() ? v.shape : shape);
  return { ...pair, a: matrix(pair.a, [rank, n]), b: matrix(pair.b, [out, rank]) };
}

function isMerged(
  { differentiable }: Builder,
  { rows, pair, n, out }: {
    readonly rows: number;
    readonly pair: ThinPair;
    readonly n: number;
    readonly out: number;
  },
): boolean {
  const rank = pair.a.shape[0] ?? 1;
  return pair.mayMerge && mergeIsCheaper({ rows, rank, width: n, out, differentiable });
}
