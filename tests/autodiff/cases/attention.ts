import type { Builder, Shape, Value } from "../../../autodiff/mod.ts";
import { type OpCase, opCase } from "./_case.ts";

/** Attention by its definition, one head at a time. */
function byDefinition(
  b: Builder,
  { q, k, v, mask }: { q: Value; k: Value; v: Value; mask?: Value | undefined },
  { heads, scale }: { heads: number; scale: number },
): Value {
  const depth = (q.shape[2] ?? 1) / heads;
  const outputs = Array.from({ length: heads }, (_, h) => {
    const head = (x: Value) => b.slice(x, { axis: 2, start: h * depth, end: (h + 1) * depth });
    const scores = b.mul(b.matMul(head(q), b.transpose(head(k), [0, 2, 1])), scale);
    const rank = mask?.shape.length ?? 0;
    // The mask of this head: [B or 1, N, M].
    const bias = mask === undefined || rank < 3
      ? mask
      : mask.shape[rank - 3] === 1
      ? b.squeeze(mask, [rank - 3])
      : b.gather(
        mask,
        b.constant({ dtype: "int64", shape: [], data: BigInt64Array.of(BigInt(h)) }),
        rank - 3,
      );
    return b.matMul(b.softmax(bias === undefined ? scores : b.add(scores, bias)), head(v));
  });
  return b.concat(outputs, 2);
}

interface Shapes {
  readonly q: Shape;
  readonly k: Shape;
  readonly mask?: Shape;
}

const HEADS = 2;
const OPTIONS = { heads: HEADS, scale: Math.fround(0.4) };

/** One attention with its probabilities kept, and recomputed whole or in blocks of two queries, of which one is left over. */
function cases(name: string, { q, k, mask }: Shapes): Record<string, OpCase> {
  const ways = {
    "kept": {},
    "recomputed": { attentionMemory: 0 },
    "blocks of two": { attentionMemory: 0, attentionBlock: 2 * (k[1] ?? 1) },
  };
  const whole = Object.entries(ways).slice(0, mask === undefined ? 3 : 1);
  return Object.fromEntries(
    whole.map(([way, policy]) => {
      const made = mask === undefined
        ? opCase({ q, k, v: k }, (b, { q, k, v }) => b.attention(q, k, v, OPTIONS), {
          twin: (b, x) => byDefinition(b, x, OPTIONS),
          policy,
        })
        : opCase(
          { q, k, v: k, mask },
          (b, { q, k, v, mask }) => b.attention(q, k, v, { ...OPTIONS, mask }),
          { twin: (b, x) => byDefinition(b, x, OPTIONS), policy },
        );
      return [`${name}, ${way}`, made];
    }),
  );
}

/** 0 for keys up to the query's own position, minus infinity for later ones. */
function causal(b: Builder, { dtype, shape }: Value): Value {
  const n = shape[1] ?? 1;
  const entries = Array.from(
    { length: n * n },
    (_, i) => i % n <= Math.floor(i / n) ? 0 : -Infinity,
  );
  return b.table(entries, { dtype, shape: [n, n] });
}

const causalCase = () =>
  opCase(
    { q: [2, 5, 6], k: [2, 5, 6], v: [2, 5, 6] },
    (b, { q, k, v }) => b.attention(q, k, v, { ...OPTIONS, mask: causal(b, q) }),
    {
      twin: (b, x) => byDefinition(b, { ...x, mask: causal(b, x.q) }, OPTIONS),
    },
  );

/** Cases of fused attention. */
export const ATTENTION_CASES = {
  Attention: {
    ...cases("self", { q: [2, 17, 4], k: [2, 17, 4] }),
    ...cases("cross", { q: [2, 17, 4], k: [2, 3, 4] }),
    ...cases("mask for all heads", { q: [2, 17, 4], k: [2, 3, 4], mask: [17, 3] }),
    ...cases("mask per head", { q: [1, 17, 4], k: [1, 3, 4], mask: [2, 17, 3] }),
    ...cases("mask per batch and head", { q: [2, 17, 4], k: [2, 3, 4], mask: [2, 2, 17, 3] }),
    ...cases("mask of keys per batch", { q: [2, 17, 4], k: [2, 3, 4], mask: [2, 1, 1, 3] }),
    causal: causalCase(),
  },
} satisfies Record<string, Record<string, OpCase>>;
