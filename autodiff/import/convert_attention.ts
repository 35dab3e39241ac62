import { floatOf, intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { type Conversion, type Conversions, type ForeignNode, given, names } from "./_node.ts";

/** Added to logits that no query may see: ONNX Runtime's own choice for masks, and far below any logit. */
const HIDDEN = -1e4;

/** Queries, keys and values per head, [B, H, N, D] each, and how they are put together. */
interface Heads {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly scale: number;
  /** Added to the logits; broadcastable to [B, H, N, M]. */
  readonly bias?: Value | undefined;
  /** Logits are c tanh(logits / c); 0 for none. */
  readonly softcap?: number;
}

/** [B, N, H·D] as [B, H, N, D]. */
function split(b: Builder, x: Value, heads: number): Value {
  const [batch = 1, tokens = 1, width = 1] = x.shape;
  if (heads < 1 || width % heads !== 0) {
    throw new ImportError(`Width ${width} is not a multiple of ${heads} heads`);
  }
  return b.transpose(b.reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
}

/** [B, H, N, D] as [B, N, H·D]. */
function merge(b: Builder, x: Value): Value {
  const [batch = 1, heads = 1, tokens = 1, depth = 1] = x.shape;
  return b.reshape(b.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * depth]);
}

/** Every head as often as `groups` queries share it. */
function repeated(b: Builder, x: Value, groups: number): Value {
  if (groups === 1) return x;
  const [batch = 1, heads = 1, tokens = 1, depth = 1] = x.shape;
  const wide = b.expand(b.unsqueeze(x, [2]), [batch, heads, groups, tokens, depth]);
  return b.reshape(wide, [batch, heads * groups, tokens, depth]);
}

/** softmax(q kᵀ · scale + bias) v per head: the graph's own operator where nothing stands against it. */
function attend(b: Builder, { q, k, v, scale, bias, softcap = 0 }: Heads): Value {
  const heads = dim(q.shape, 1);
  const isPlain = softcap === 0 && k.shape.join() === v.shape.join() &&
    (bias === undefined || bias.shape.length <= 4);
  if (isPlain) {
    const [rows, keys, values] = [q, k, v].map((x) => merge(b, x));
    if (rows === undefined || keys === undefined || values === undefined) throw new RangeError();
    const mask = bias && b.cast(bias, q.dtype);
    return split(
      b,
      b.attention(rows, keys, values, { heads, scale, ...(mask && { mask }) }),
      heads,
    );
  }
  const [probabilities] = probabilitiesOf(b, { q, k, v, scale, bias, softcap });
  return b.matMul(probabilities, v);
}

/** softmax(q kᵀ · scale + bias), and what it is of. */
function probabilitiesOf(
  b: Builder,
  { q, k, scale, bias, softcap = 0 }: Heads,
): readonly [Value, Value] {
  const logits = b.fusedMatMul(q, k, { transB: true, alpha: scale });
  const capped = softcap === 0 ? logits : b.mul(b.tanh(b.div(logits, softcap)), softcap);
  const biased = bias === undefined ? capped : b.add(capped, b.cast(bias, q.dtype));
  return [b.softmax(biased), logits];
}

function sum(b: Builder, parts: readonly (Value | undefined)[]): Value | undefined {
  const known = parts.filter((v) => v !== undefined);
  return known.length === 0 ? undefined : known.reduce((x, y) => b.add(x, y));
}

/** 0 where a boolean mask holds, the lowest logit elsewhere. */
function additive(b: Builder, mask: Value, like: Value): Value {
  if (mask.dtype !== "bool") return b.cast(mask, like.dtype);
  return b.where(mask, b.scalar(0, like.dtype), b.scalar(HIDDEN, like.dtype));
}

/** Hides keys after a query: query i of n sees key j of m where j ≤ i + `offset`. */
function causal(b: Builder, like: Value, [n, m, offset]: readonly [number, number, number]): Value {
  const table = Float64Array.from(
    { length: n * m },
    (_, at) => at % m <= Math.floor(at / m) + offset ? 0 : HIDDEN,
  );
  return b.table(table, { dtype: like.dtype, shape: [1, 1, n, m] });
}

/** Attention of opset 23 and later. */
const attention: Conversion = (b, node) => {
  const [, , , mask, pastKeys, pastValues, lengths] = node.inputs;
  const { attributes } = node;
  const is4d = given(node, 0).shape.length === 4;
  const heads = (i: number, name: string) =>
    is4d ? given(node, i) : split(b, given(node, i), intOf(attributes, name, 0));
  const q = heads(0, "q_num_heads");
  const [newKeys, newValues] = [heads(1, "kv_num_heads"), heads(2, "kv_num_heads")];
  const keys = pastKeys === undefined ? newKeys : b.concat([pastKeys, newKeys], 2);
  const values = pastValues === undefined ? newValues : b.concat([pastValues, newValues], 2);
  const groups = dim(q.shape, 1) / dim(keys.shape, 1);
  const [n, m, past] = [dim(q.shape, 2), dim(keys.shape, 2), dim(pastKeys?.shape ?? [0, 0, 0], 2)];
  const bias = sum(b, [
    mask && additive(b, padded(b, mask, m), q),
    intOf(attributes, "is_causal", 0) === 1 ? causal(b, q, [n, m, past]) : undefined,
    lengths && shorter(b, lengths, { like: q, m }),
  ]);
  const put = {
    q,
    k: repeated(b, keys, groups),
    v: repeated(b, values, groups),
    scale: floatOf(attributes, "scale", 1 / Math.sqrt(dim(q.shape, 3))),
    bias,
    softcap: floatOf(attributes, "softcap", 0),
  };
  const y = attend(b, put);
  return [
    is4d ? y : merge(b, y),
    names(node, 1) ? keys : undefined,
    names(node, 2) ? values : undefined,
    names(node, 3) ? logits(b, node, put) : undefined,
  ];
};

/** What output 3 of an Attention gives, by its mode. */
function logits(b: Builder, node: ForeignNode, put: Heads): Value {
  const [probabilities, raw] = probabilitiesOf(b, put);
  const mode = intOf(node.attributes, "qk_matmul_output_mode", 0);
  if (mode === 0) return raw;
  if (mode === 3) return probabilities;
  throw new ImportError(`Attribute qk_matmul_output_mode is ${mode}, expected 0 or 3`);
}

/** A mask of fewer keys than there are hides the others. */
function padded(b: Builder, mask: Value, m: number): Value {
  const missing = m - dim(mask.shape, -1);
  if (missing <= 0 || dim(mask.shape, -1) === 1) return mask;
  const shape = [...mask.shape.slice(0, -1), missing];
  const hidden = mask.dtype === "bool" ? b.scalar(0, "bool") : b.scalar(HIDDEN, mask.dtype);
  return b.concat([mask, b.expand(hidden, shape)], mask.shape.length - 1);
}

/** Hides keys from each picture's own length on. */
function shorter(
  b: Builder,
  lengths: Value,
  { like, m }: { readonly like: Value; readonly m: number },
): Value {
  const places = b.table(Float64Array.from({ length: m }, (_, i) => i), {
    dtype: "int64",
    shape: [1, 1, 1, m],
  });
  const ends = b.reshape(b.cast(lengths, "int64"), [sizeOf(lengths.shape), 1, 1, 1]);
  return additive(b, b.less(places, ends), like);
}

/** ONNX Runtime's masks of keys: 1 and 0 as [B, M] or [B, N, M], or each row's length [B]. */
function keyMask(b: Builder, mask: Value, { like, m }: { like: Value; m: number }): Value {
  const rank = mask.shape.length;
  if (rank === 1) return shorter(b, mask, { like, m });
  const shape: Shape = rank === 2
    ? [dim(mask.shape, 0), 1, 1, m]
    : rank === 3
    ? [dim(mask.shape, 0), 1, dim(mask.shape, 1), m]
    : mask.shape;
  return additive(b, b.cast(b.reshape(mask, shape), "bool"), like);
}

/** ONNX Runtime's MultiHeadAttention: queries, keys and values apart, or packed in the first input. */
const multiHead: Conversion = (b, node) => {
  const [first, second, third, bias, mask, attentionBias, pastKeys, pastValues] = node.inputs;
  const { attributes } = node;
  const heads = intOf(attributes, "num_heads", 0);
  const x = first ?? given(node, 0);
  const widths = (i: number) =>
    bias && b.slice(bias, { axis: 0, start: i * dim(x.shape, 2), end: (i + 1) * dim(x.shape, 2) });
  if (x.shape.length === 5) {
    // [B, N, H, 3, D]
    const parts = b.split(x, [1, 1, 1], 3).map((v) => b.transpose(b.squeeze(v, [3]), [0, 2, 1, 3]));
    const [q, k, v] = parts;
    if (q === undefined || k === undefined || v === undefined) throw new RangeError("No parts");
    return merge(b, attend(b, { q, k, v, scale: scaleOf(node, q) }));
  }
  const biased = (v: Value, own: Value | undefined) => own === undefined ? v : b.add(v, own);
  const q = split(b, biased(x, widths(0)), heads);
  const per = (v: Value | undefined, own: Value | undefined): Value => {
    if (v === undefined) throw new ImportError("Keys or values are missing");
    return v.shape.length === 4 ? v : split(b, biased(v, own), heads);
  };
  const width = second?.shape.length === 3 ? dim(second.shape, 2) : dim(x.shape, 2);
  const rest = bias &&
    b.slice(bias, { axis: 0, start: dim(x.shape, 2) + width, end: dim(bias.shape, 0) });
  if (second?.shape.length === 5) {
    const parts = b.split(second, [1, 1], 3).map((v) =>
      b.transpose(b.squeeze(v, [3]), [0, 2, 1, 3])
    );
    const [k, v] = parts;
    if (k === undefined || v === undefined) throw new RangeError("No parts");
    return merge(b, attend(b, { q, k, v, scale: scaleOf(node, q) }));
  }
  const [newKeys, newValues] = [per(second, widths(1)), per(third, rest)];
  const k = pastKeys === undefined ? newKeys : b.concat([pastKeys, newKeys], 2);
  const v = pastValues === undefined ? newValues : b.concat([pastValues, newValues], 2);
  const [n, m] = [dim(q.shape, 2), dim(k.shape, 2)];
  const y = attend(b, {
    q,
    k,
    v,
    scale: scaleOf(node, q),
    bias: sum(b, [
      mask && keyMask(b, mask, { like: q, m }),
      attentionBias,
      intOf(attributes, "unidirectional", 0) === 1 ? causal(b, q, [n, m, m - n]) : undefined,
    ]),
  });
  return [merge(b, y), names(node, 1) ? k : undefined, names(node, 2) ? v : undefined];
};

function scaleOf({ attributes }: ForeignNode, q: Value): number {
  const given = floatOf(attributes, "scale", 0);
  return given === 0 ? 1 / Math.sqrt(dim(q.shape, 3)) : given;
}

/** ONNX Runtime's Attention, which projects its input to queries, keys and values itself. */
const projected: Conversion = (b, node) => {
  const [x, weights, bias] = [given(node, 0), given(node, 1), node.inputs[2]];
  const [, , , mask, past, attentionBias] = node.inputs;
  if (past !== undefined || names(node, 1)) {
    throw new ImportError("Attention of com.microsoft with past keys is not supported");
  }
  if (intOf(node.attributes, "do_rotary", 0) === 1) {
    throw new ImportError("Attribute do_rotary is 1, expected 0");
  }
  const heads = intOf(node.attributes, "num_heads", 0);
  const product = b.matMul(x, weights);
  const all = bias === undefined ? product : b.add(product, bias);
  const third = dim(weights.shape, 1) / 3;
  const asked = node.attributes["qkv_hidden_sizes"];
  const sizes = asked?.type === "ints" ? asked.value : [third, third, third];
  const [q, k, v] = b.split(all, sizes, 2).map((part) => split(b, part, heads));
  if (q === undefined || k === undefined || v === undefined) throw new RangeError("No parts");
  const n = dim(q.shape, 2);
  return merge(
    b,
    attend(b, {
      q,
      k,
      v,
      scale: scaleOf(node, q),
      bias: sum(b, [
        mask && keyMask(b, mask, { like: q, m: n }),
        attentionBias,
        intOf(node.attributes, "unidirectional", 0) === 1 ? causal(b, q, [n, n, 0]) : undefined,
      ]),
    }),
  );
};

/** Pairs of entries turned by angles of their places: x [B, N, H·D] or [B, H, N, D], caches of cosines and sines. */
function rotary(
  b: Builder,
  node: ForeignNode,
  { x, places, cosines, sines }: {
    readonly x: Value;
    readonly places: Value | undefined;
    readonly cosines: Value;
    readonly sines: Value;
  },
): Value {
  const { attributes } = node;
  const is3d = x.shape.length === 3;
  const asked = intOf(attributes, "rotary_embedding_dim", 0);
  const guessed = dim(x.shape, 2) / (2 * dim(cosines.shape, -1));
  const count = intOf(attributes, "num_heads", 0) || guessed;
  const heads = is3d ? split(b, x, count) : x;
  const [batch = 1, , tokens = 1, depth = 1] = heads.shape;
  const turned = asked === 0 ? depth : asked;
  const table = (cache: Value): Value => {
    const rows = places === undefined
      ? cache
      : b.gather(cache, placesOf(b, places, [batch, tokens]));
    const half = b.reshape(rows, [dim(rows.shape, 0), 1, tokens, dim(rows.shape, -1)]);
    return b.cast(half, x.dtype);
  };
  const [c, s] = [table(cosines), table(sines)];
  const [part, rest] = turned === depth
    ? [heads, undefined]
    : b.split(heads, [turned, depth - turned], 3);
  if (part === undefined) throw new RangeError("No part to turn");
  const isInterleaved = intOf(attributes, "interleaved", 0) === 1;
  const pairs = isInterleaved
    ? b.split(b.reshape(part, [...part.shape.slice(0, 3), turned / 2, 2]), [1, 1], 4)
      .map((v) => b.squeeze(v, [4]))
    : b.split(part, [turned / 2, turned / 2], 3);
  const [even, odd] = pairs;
  if (even === undefined || odd === undefined) throw new RangeError("No pairs to turn");
  const real = b.sub(b.mul(c, even), b.mul(s, odd));
  const imaginary = b.add(b.mul(s, even), b.mul(c, odd));
  const joined = isInterleaved
    ? b.reshape(b.concat([b.unsqueeze(real, [4]), b.unsqueeze(imaginary, [4])], 4), part.shape)
    : b.concat([real, imaginary], 3);
  const y = rest === undefined ? joined : b.concat([joined, rest], 3);
  return is3d ? merge(b, y) : y;
}

/** Rows [B, N] of a cache; a single number is the first of consecutive ones. */
function placesOf(b: Builder, places: Value, [batch, tokens]: readonly [number, number]): Value {
  if (sizeOf(places.shape) !== 1 || tokens === 1) {
    return b.reshape(places, places.shape.length === 2 ? places.shape : [batch, tokens]);
  }
  const count = b.table(Float64Array.from({ length: tokens }, (_, i) => i), {
    dtype: places.dtype,
    shape: [1, tokens],
  });
  const first = constantOf(places)?.data[0];
  return first !== undefined && Number(first) === 0
    ? count
    : b.add(b.reshape(places, [1, 1]), count);
}

/** Attention, and what goes with it. */
export const ATTENTION: Conversions = {
  Attention: attention,
  RotaryEmbedding: (b, node) =>
    rotary(b, node, {
      x: given(node, 0),
      cosines: given(node, 1),
      sines: given(node, 2),
      places: node.inputs[3],
    }),
  "com.microsoft.Attention": projected,
  "com.microsoft.MultiHeadAttention": multiHead,
  "com.microsoft.RotaryEmbedding": (b, node) =>
    rotary(b, node, {
      x: given(node, 0),
      places: given(node, 1),
      cosines: given(node, 2),
      sines: given(node, 3),
    }),
};
