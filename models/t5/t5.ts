import { int64, type Value } from "../../autodiff/mod.ts";
import { linear, rmsNorm } from "../nn.ts";
import type { Segment } from "../segments.ts";
import type { WeightScope } from "../weight_scope.ts";
import type { T5Config } from "./t5_config.ts";

/** Where the segments of an encoder are built. */
export interface T5Context {
  readonly b: WeightScope["b"];
  readonly s: WeightScope;
}

/**
 * The encoder of transformers' `T5EncoderModel` in segments, from "input_ids", int64 [B, N], to the normalized states
 * "states" [B, N, width] (Raffel et al., arXiv 1910.10683). Padding is attended to, as image pipelines do. Logits are
 * not scaled; the first layer's biases, by distance, are all layers'.
 */
export function t5Segments(
  config: T5Config,
  { tokens }: { readonly tokens: number },
): readonly Segment<T5Context>[] {
  const { vocabSize, width, heads, layers, epsilon } = config;
  const segments: Segment<T5Context>[] = [
    {
      name: "embedded",
      reads: ["input_ids"],
      build: ({ s }, read) => {
        const name = s.has("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
        return s.rowsAt(read("input_ids"), name, [vocabSize, width]);
      },
    },
    {
      name: "bias",
      reads: [],
      build: ({ b, s }) => {
        const first = s.at("encoder.block.0.layer.0.SelfAttention.relative_attention_bias");
        const kinds = b.constant(int64(distanceKinds(tokens, config), [tokens, tokens]));
        const rows = first.rowsAt(kinds, "weight", [config.buckets, heads]);
        return b.unsqueeze(b.transpose(rows, [2, 0, 1]), [0]);
      },
    },
  ];
  let h = "embedded";
  for (let i = 0; i < layers; i++) {
    const before = h;
    h = `encoder.block.${i}`;
    const path = h;
    segments.push({
      name: path,
      reads: [before, "bias"],
      build: ({ s }, read) =>
        block(s.at(`${path}.layer`), read(before), { config, bias: read("bias") }),
    });
  }
  const last = h;
  segments.push({
    name: "states",
    reads: [last],
    build: ({ s }, read) => rmsNorm(s.at("encoder.final_layer_norm"), read(last), epsilon),
  });
  return segments;
}

function block(
  s: WeightScope,
  x: Value,
  { config, bias }: { readonly config: T5Config; readonly bias: Value },
): Value {
  const { b } = s;
  const { width, heads, headWidth, mlpWidth, epsilon } = config;
  const attention = s.at("0.SelfAttention");
  const normed = rmsNorm(s.at("0.layer_norm"), x, epsilon);
  const project = (name: string) => linear(attention.at(name), normed, heads * headWidth);
  const found = b.attention(project("q"), project("k"), project("v"), {
    heads,
    scale: 1,
    mask: bias,
  });
  const attended = b.add(x, linear(attention.at("o"), found, width));
  const mlp = s.at("1.DenseReluDense");
  const inner = rmsNorm(s.at("1.layer_norm"), attended, epsilon);
  const gate = b.gelu(linear(mlp.at("wi_0"), inner, mlpWidth), "tanh");
  const gated = b.mul(gate, linear(mlp.at("wi_1"), inner, mlpWidth));
  return b.add(attended, linear(mlp.at("wo"), gated, width));
}

/**
 * transformers' `_relative_position_bucket`, bidirectional, for all pairs [query, key]: one kind for each short
 * distance, then ever wider ranges up to `maxDistance`; keys after the query have kinds of their own. The logarithms are
 * rounded to float32 as PyTorch's are, since they are cut to whole numbers.
 */
function distanceKinds(
  tokens: number,
  { buckets, maxDistance }: T5Config,
): BigInt64Array<ArrayBuffer> {
  const half = buckets / 2;
  const exact = half >> 1;
  const kindOf = (distance: number): number => {
    const apart = Math.abs(distance);
    const far = Math.fround(Math.log(apart / exact));
    const share = Math.fround(far / Math.fround(Math.log(maxDistance / exact)));
    const wide = exact + Math.trunc(Math.fround(share * (half - exact)));
    return (distance > 0 ? half : 0) + (apart < exact ? apart : Math.min(wide, half - 1));
  };
  return BigInt64Array.from(
    { length: tokens * tokens },
    (_, i) => BigInt(kindOf(i % tokens - Math.floor(i / tokens))),
  );
}
