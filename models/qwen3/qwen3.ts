import type { Builder, Value } from "../../autodiff/mod.ts";
import { linear, rmsNorm } from "../nn.ts";
import { rotate, rotation } from "../rotary.ts";
import type { Segment } from "../segments.ts";
import type { WeightScope } from "../weight_scope.ts";
import type { Qwen3Config } from "./qwen3_config.ts";

/** Where the segments of a Qwen3 are built. */
export interface Qwen3Context {
  readonly b: Builder;
  readonly s: WeightScope;
}

/** Low enough that its exponential is zero beside any logit, and finite on every provider. */
const MASKED = -1e30;

/**
 * transformers' `Qwen3Model` as a text encoder, in segments: from "input_ids", int64 [1, N], and "attention_mask",
 * float32 [1, N], 0 where padding is not attended to, to "states" [1, N, count · width], the states after the given
 * layers side by side; 0 stands for the embeddings. The last layer's are normalized, as `hidden_states` has them. What no
 * wanted layer needs is not computed.
 */
export function qwen3Segments(
  config: Qwen3Config,
  { tokens, wanted }: { readonly tokens: number; readonly wanted: readonly number[] },
): readonly Segment<Qwen3Context>[] {
  const { vocabSize, width, layers, epsilon } = config;
  const top = Math.max(...wanted);
  if (wanted.length === 0 || !wanted.every((k) => Number.isInteger(k) && k >= 0 && k <= layers)) {
    throw new RangeError(`Layers are ${wanted}, expected whole numbers from 0 to ${layers}`);
  }
  // `Qwen3ForCausalLM` keeps the model under a name, `Qwen3Model` saved by itself does not.
  const scope = (s: WeightScope) => s.has("model.embed_tokens.weight") ? s.at("model") : s;
  const segments: Segment<Qwen3Context>[] = [{
    name: "embedded",
    reads: ["input_ids"],
    build: ({ s }, read) =>
      scope(s).rowsAt(read("input_ids"), "embed_tokens.weight", [vocabSize, width]),
  }];
  const names = ["embedded"];
  for (let i = 0; i < top; i++) {
    const before = names[i] ?? "";
    const name = `layers.${i}`;
    segments.push({
      name,
      reads: [before, "attention_mask"],
      build: ({ s }, read) =>
        layer(scope(s).at(name), read(before), {
          config,
          mask: maskOf(s, read("attention_mask"), tokens),
        }),
    });
    names.push(name);
  }
  const reads = wanted.map((k) => names[k] ?? "");
  segments.push({
    name: "states",
    reads: [...new Set(reads)],
    build: ({ b, s }, read) =>
      b.concat(
        reads.map((name, i) =>
          wanted[i] === layers ? rmsNorm(scope(s).at("norm"), read(name), epsilon) : read(name)
        ),
        2,
      ),
  });
  return segments;
}

/** Of what comes later, and of padding: additive, [1, 1, N, N]. */
function maskOf({ b, dtype }: WeightScope, attended: Value, tokens: number): Value {
  const later = Array.from(
    { length: tokens * tokens },
    (_, i) => i % tokens > Math.floor(i / tokens) ? MASKED : 0,
  );
  const causal = b.table(later, { dtype, shape: [1, 1, tokens, tokens] });
  const padding = b.mul(b.sub(1, b.reshape(attended, [1, 1, 1, tokens])), MASKED);
  return b.add(causal, padding);
}

function layer(
  s: WeightScope,
  x: Value,
  { config, mask }: { readonly config: Qwen3Config; readonly mask: Value },
): Value {
  const { b } = s;
  const { width, heads, sharedHeads, headWidth, mlpWidth, epsilon, theta } = config;
  const [batch = 1, tokens = 1] = x.shape;
  const attention = s.at("self_attn");
  const normed = rmsNorm(s.at("input_layernorm"), x, epsilon);
  const project = (name: string, count: number) =>
    b.reshape(linear(attention.at(`${name}_proj`), normed, count * headWidth), [
      batch,
      tokens,
      count,
      headWidth,
    ]);
  const turns = rotation(b, `qwen3 ${tokens}`, {
    dtype: s.dtype,
    make: () => ({
      positions: Array.from({ length: tokens }, (_, i) => [i]),
      widths: [headWidth],
      theta,
    }),
  });
  const turned = (name: string, count: number) => {
    const y = rmsNorm(attention.at(`${name}_norm`), project(name, count), epsilon);
    return rotate(b, y, { ...turns, pairs: "halves" });
  };
  const perQuery = (y: Value) => {
    const groups = [batch, tokens, sharedHeads, heads / sharedHeads, headWidth];
    return b.expand(b.unsqueeze(y, [3]), groups);
  };
  const merged = (y: Value) => b.reshape(y, [batch, tokens, heads * headWidth]);
  const [q, k, v] = [
    turned("q", heads),
    perQuery(turned("k", sharedHeads)),
    perQuery(project("v", sharedHeads)),
  ];
  const found = b.attention(merged(q), merged(k), merged(v), { heads, mask });
  const attended = b.add(x, linear(attention.at("o_proj"), found, width));
  const mlp = s.at("mlp");
  const inner = rmsNorm(s.at("post_attention_layernorm"), attended, epsilon);
  const gate = b.silu(linear(mlp.at("gate_proj"), inner, mlpWidth));
  const gated = b.mul(gate, linear(mlp.at("up_proj"), inner, mlpWidth));
  return b.add(attended, linear(mlp.at("down_proj"), gated, width));
}
