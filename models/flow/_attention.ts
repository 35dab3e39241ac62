import type { Builder, Value } from "../../autodiff/mod.ts";
import { rmsNorm } from "../nn.ts";
import { rotate, type Rotation } from "../rotary.ts";
import { project, tokensOf } from "./_layers.ts";
import type { TransformerContext } from "./transformer.ts";

/** How heads attend. */
export interface HeadOptions {
  readonly heads: number;
  /** Of the normalization of queries and keys, where the state dict has one. */
  readonly epsilon: number;
  /** Of all tokens; absent: none are turned. */
  readonly turns?: Rotation | undefined;
}

/**
 * Queries or keys y [B, N, H·D], normalized by the weight `path` where the state dict has it, and turned: of the same
 * shape, features of a head in another order.
 */
export function headsOf(
  { b, s }: TransformerContext,
  path: string,
  { y, heads, epsilon, turns }: HeadOptions & { readonly y: Value },
): Value {
  const scope = s.at(path);
  const isNormed = scope.has("weight");
  if (!isNormed && turns === undefined) return y;
  const [batch = 1, tokens = 1, width = 1] = y.shape;
  const split = b.reshape(y, [batch, tokens, heads, width / heads]);
  const normed = isNormed ? rmsNorm(scope, split, epsilon) : split;
  const turned = turns === undefined
    ? normed
    : rotate(b, normed, { ...turns, pairs: "neighbours" });
  return b.reshape(turned, y.shape);
}

/** Attention of tokens x [B, N, C] among themselves under the names to_q, to_k and to_v, without projection after it. */
export function selfAttention(
  c: TransformerContext,
  path: string,
  { x, ...options }: HeadOptions & { readonly x: Value },
): Value {
  const out = x.shape.at(-1) ?? 1;
  const one = (name: string) => project(c, `${path}.${name}`, { x, out });
  const q = headsOf(c, `${path}.norm_q`, { y: one("to_q"), ...options });
  const k = headsOf(c, `${path}.norm_k`, { y: one("to_k"), ...options });
  return c.b.attention(q, k, one("to_v"), { heads: options.heads });
}

/**
 * Attention of image and text tokens among themselves, each with projections of its own; the image first, which changes
 * nothing. Without `asksText` no queries of the text are made, and there is no result for it. `mask` is added to the
 * logits, broadcastable to [B, heads, queries, N].
 */
export function jointAttention(
  c: TransformerContext,
  path: string,
  { image, text, asksText, mask, heads, epsilon, turns }: HeadOptions & {
    readonly image: Value;
    readonly text: Value;
    readonly asksText: boolean;
    readonly mask?: Value | undefined;
  },
): { readonly image: Value; readonly text: Value | undefined } {
  const { b } = c;
  const [, images = 1, width = 1] = image.shape;
  const all = images + (text.shape[1] ?? 1);
  const own = (name: string) => project(c, `${path}.to_${name}`, { x: image, out: width });
  const other = (name: string) => project(c, `${path}.add_${name}_proj`, { x: text, out: width });
  const turnsOf = (start: number, end: number) => turns && partOf(b, turns, [start, end]);
  const imageHeads = (name: "q" | "k") =>
    headsOf(c, `${path}.norm_${name}`, {
      y: own(name),
      heads,
      epsilon,
      turns: turnsOf(0, images),
    });
  const textHeads = (name: "q" | "k") =>
    headsOf(c, `${path}.norm_added_${name}`, {
      y: other(name),
      heads,
      epsilon,
      turns: turnsOf(images, all),
    });
  const q = asksText ? b.concat([imageHeads("q"), textHeads("q")], 1) : imageHeads("q");
  const k = b.concat([imageHeads("k"), textHeads("k")], 1);
  const v = b.concat([own("v"), other("v")], 1);
  const found = b.attention(q, k, v, { heads, ...(mask && { mask }) });
  const out = (name: string, range: readonly [number, number]) =>
    project(c, `${path}.${name}`, { x: tokensOf(b, found, range), out: width });
  return {
    image: out("to_out.0", [0, images]),
    text: asksText ? out("to_add_out", [images, all]) : undefined,
  };
}

/** Tokens `start`..`end`-1 of rotations. */
function partOf(
  b: Builder,
  { cos, sin }: Rotation,
  [start, end]: readonly [number, number],
): Rotation {
  const part = (x: Value) => b.slice(x, { axis: 1, start, end });
  return { cos: part(cos), sin: part(sin) };
}
