import type { Value } from "../../autodiff/mod.ts";
import { groupNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";

/** Of all normalizations in a VAE. */
export const EPSILON = 1e-6;

/** Attention of one head among all positions of x [B, C, H, W], added to x. */
export function vaeAttention(s: WeightScope, x: Value, groups: number): Value {
  const { b } = s;
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const normed = groupNorm(s.at("group_norm"), x, { groups, epsilon: EPSILON });
  const tokens = b.transpose(b.reshape(normed, [batch, channels, height * width]), [0, 2, 1]);
  // Files from before diffusers 0.12 have the second names.
  const project = (names: readonly [string, string], v: Value) =>
    linear(s.at(s.has(`${names[0]}.weight`) ? names[0] : names[1]), v, channels);
  const q = project(["to_q", "query"], tokens);
  const k = project(["to_k", "key"], tokens);
  const v = project(["to_v", "value"], tokens);
  const attended = project(["to_out.0", "proj_attn"], b.attention(q, k, v, { heads: 1 }));
  return b.add(b.reshape(b.transpose(attended, [0, 2, 1]), x.shape), x);
}
