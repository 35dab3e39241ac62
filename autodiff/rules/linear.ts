import { type Attributes, floatOf, int, intOf, ints, intsOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { type Window, windowOf } from "../infer/linear.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { cotangent, input, type Rule, type RuleContext } from "./_types.ts";

/** C = A B: dA = dC Bᵀ, dB = Aᵀ dC; vectors are matrices with one row or column. */
const matMul: Rule = (c) => {
  const { b } = c;
  const [x, y] = [input(c, 0), input(c, 1)];
  const a = x.shape.length === 1 ? b.reshape(x, [1, ...x.shape]) : x;
  const w = y.shape.length === 1 ? b.reshape(y, [...y.shape, 1]) : y;
  let dy = cotangent(c);
  if (y.shape.length === 1) dy = b.reshape(dy, [...dy.shape, 1]);
  if (x.shape.length === 1) dy = b.reshape(dy, [...dy.shape.slice(0, -1), 1, dim(dy.shape, -1)]);
  const vector = (g: Value, v: Value) =>
    v.shape.length === 1 ? b.reshape(sumLead(b, g, 2), v.shape) : g;
  return products(c, { a, w, dy, alpha: 1 }).map((g, i) => g && vector(g, i === 0 ? x : y));
};

function sumLead(b: Builder, g: Value, rank: number): Value {
  const extra = g.shape.length - rank;
  return extra <= 0
    ? g
    : b.sum(g, { axes: g.shape.slice(0, extra).map((_, i) => i), keepDims: false });
}

function products(
  c: RuleContext,
  { a, w, dy, alpha }: { a: Value; w: Value; dy: Value; alpha: number },
): (Value | undefined)[] {
  const { b } = c;
  return [
    c.wants[0] ? weightProduct(b, dy, w, alpha) : undefined,
    c.wants[1] ? tokenProduct(b, a, dy, alpha) : undefined,
  ];
}

/** dY Wᵀ. Against one shared matrix this is one Gemm over all rows, which needs no transposed copy of W. */
function weightProduct(b: Builder, dy: Value, w: Value, alpha: number): Value {
  if (w.shape.length > 2) return b.fusedMatMul(dy, w, { transB: true, alpha });
  const n = dim(dy.shape, -1);
  const rows = b.reshape(dy, [sizeOf(dy.shape) / n, n]);
  return b.reshape(b.gemm(rows, w, { transB: true, alpha }), [
    ...dy.shape.slice(0, -1),
    dim(w.shape, 0),
  ]);
}

/** Aᵀ dY, summed over the batch at once where both carry the same one and the other operand had none. */
function tokenProduct(b: Builder, a: Value, dy: Value, alpha: number): Value {
  return b.fusedMatMul(a, dy, { transA: true, alpha });
}

const fusedMatMul: Rule = (c) => {
  const { b } = c;
  const [a, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const transA = intOf(c.attributes, "transA", 0) === 1;
  const transB = intOf(c.attributes, "transB", 0) === 1;
  const alpha = floatOf(c.attributes, "alpha", 1);
  // With A' = op(A), B' = op(B): dA' = dY B'ᵀ, dB' = A'ᵀ dY; transposed where the operand was.
  return [
    !c.wants[0]
      ? undefined
      : transA
      ? b.fusedMatMul(w, dy, { transA: transB, transB: true, alpha })
      : b.fusedMatMul(dy, w, { transB: !transB, alpha }),
    !c.wants[1]
      ? undefined
      : transB
      ? b.fusedMatMul(dy, a, { transA: true, transB: transA, alpha })
      : b.fusedMatMul(a, dy, { transA: !transA, alpha }),
  ];
};

const gemm: Rule = (c) => {
  const { b } = c;
  const [a, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const transA = intOf(c.attributes, "transA", 0) === 1;
  const transB = intOf(c.attributes, "transB", 0) === 1;
  const alpha = floatOf(c.attributes, "alpha", 1);
  const beta = floatOf(c.attributes, "beta", 1);
  return [
    !c.wants[0]
      ? undefined
      : transA
      ? b.gemm(w, dy, { transA: transB, transB: true, alpha })
      : b.gemm(dy, w, { transB: !transB, alpha }),
    !c.wants[1]
      ? undefined
      : transB
      ? b.gemm(dy, a, { transA: true, transB: transA, alpha })
      : b.gemm(a, dy, { transA: !transA, alpha }),
    c.wants[2] ? (beta === 1 ? dy : b.mul(dy, beta)) : undefined,
  ];
};

/** The kernel of a convolution with each group's in and out channels swapped: [C, O/g, ...] from [O, C/g, ...]. */
function swapChannels(b: Builder, w: Value, group: number): Value {
  const [o, i, ...k] = w.shape;
  const axes = k.map((_, n) => n);
  if (group === 1) return b.transpose(w, [1, 0, ...axes.map((n) => n + 2)]);
  const split = b.reshape(w, [group, (o ?? 0) / group, i ?? 0, ...k]);
  return b.reshape(
    b.transpose(split, [0, 2, 1, ...axes.map((n) => n + 3)]),
    [group * (i ?? 0), (o ?? 0) / group, ...k],
  );
}

function flip(b: Builder, w: Value): Value {
  const axes = w.shape.flatMap((d, i) => i >= 2 && d > 1 ? [i] : []);
  if (axes.length === 0) return w;
  // From the last entry down to before the first: ONNX writes "before the first" as a very negative end.
  return b.call("Slice", [
    w,
    b.ints(axes.map(() => -1)),
    b.ints(axes.map(() => -(2 ** 31))),
    b.ints(axes),
    b.ints(axes.map(() => -1)),
  ]);
}

const all = (values: readonly number[], n: number) => values.every((v) => v === n);

/** d result / d x of a convolution with output gradient dy. */
function convInput(b: Builder, { dy, w, x, window, group }: {
  dy: Value;
  w: Value;
  x: Shape;
  window: Window;
  group: number;
}): Value {
  const { kernel, strides, dilations, pads } = window;
  const n = kernel.length;
  const reach = kernel.map((k, i) => (k - 1) * dim(dilations, i));
  const spatial = x.slice(2);
  if (
    all(strides, 1) && reach.every((r, i) => dim(pads, i) <= r && dim(pads, i + n) <= r)
  ) {
    // The adjoint of a correlation is the correlation with the flipped kernel, padded to the full overlap.
    return b.call("Conv", [dy, flip(b, swapChannels(b, w, group))], {
      kernel_shape: ints(kernel),
      strides: ints(strides),
      dilations: ints(dilations),
      pads: ints([...reach, ...reach].map((r, i) => r - dim(pads, i))),
      group: int(group),
    });
  }
  const tiles = kernel.every((k, i) => k === strides[i] && spatial[i] === k * dim(dy.shape, i + 2));
  if (group === 1 && n === 2 && tiles && all(pads, 0) && all(dilations, 1)) {
    return untile(b, dy, w);
  }
  const extra = spatial.map((size, i) =>
    size - ((dim(dy.shape, i + 2) - 1) * dim(strides, i) + dim(reach, i) + 1 - dim(pads, i) -
      dim(pads, i + n))
  );
  return b.call("ConvTranspose", [dy, w], {
    kernel_shape: ints(kernel),
    strides: ints(strides),
    dilations: ints(dilations),
    pads: ints(pads),
    output_padding: ints(extra),
    group: int(group),
  });
}

/** Patches that do not overlap (a vision transformer's embedding): one product and a rearrangement. */
function untile(b: Builder, dy: Value, w: Value): Value {
  const [batch = 1, o = 1, rows = 1, columns = 1] = dy.shape;
  const [, ch = 1, kh = 1, kw = 1] = w.shape;
  const tokens = b.reshape(b.transpose(dy, [0, 2, 3, 1]), [batch * rows * columns, o]);
  const patches = b.gemm(tokens, b.reshape(w, [o, ch * kh * kw]));
  return b.reshape(
    b.transpose(b.reshape(patches, [batch, rows, columns, ch, kh, kw]), [0, 3, 1, 4, 2, 5]),
    [batch, ch, rows * kh, columns * kw],
  );
}

/** d result / d w: the correlation of x with dy, where batch takes the part of channels, stride that of dilation. */
function convKernel(b: Builder, { dy, x, window, group, shape }: {
  dy: Value;
  x: Value;
  window: Window;
  group: number;
  shape: Shape;
}): Value {
  const { kernel, strides, dilations, pads } = window;
  const perm = [1, 0, ...kernel.map((_, i) => i + 2)];
  const part = (v: Value, g: number) => {
    const size = dim(v.shape, 1) / group;
    return group === 1 ? v : b.slice(v, { axis: 1, start: g * size, end: (g + 1) * size });
  };
  const parts = Array.from({ length: group }, (_, g) => {
    const full = b.call("Conv", [b.transpose(part(x, g), perm), b.transpose(part(dy, g), perm)], {
      kernel_shape: ints(dy.shape.slice(2)),
      strides: ints(dilations),
      dilations: ints(strides),
      pads: ints(pads),
    });
    // Rows of x that no output read make the result larger than the kernel: cut them off.
    let w = b.transpose(full, perm);
    for (const [i, k] of kernel.entries()) {
      if (dim(w.shape, i + 2) > k) w = b.slice(w, { axis: i + 2, start: 0, end: k });
    }
    return w;
  });
  return b.reshape(b.concat(parts, 0), shape);
}

const conv: Rule = (c) => {
  const { b } = c;
  const [x, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const group = intOf(c.attributes, "group", 1);
  const window = windowOf(c, w.shape.slice(2), x.shape.slice(2));
  return [
    c.wants[0] ? convInput(b, { dy, w, x: x.shape, window, group }) : undefined,
    c.wants[1] ? convKernel(b, { dy, x, window, group, shape: w.shape }) : undefined,
    c.wants[2] ? perChannel(b, dy) : undefined,
  ];
};

const perChannel = (b: Builder, dy: Value): Value =>
  b.sum(dy, { axes: [0, ...dy.shape.slice(2).map((_, i) => i + 2)], keepDims: false });

/** A transposed convolution is the adjoint of a convolution: its input gradient is that convolution. */
const convTranspose: Rule = (c) => {
  const { b } = c;
  const [x, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const group = intOf(c.attributes, "group", 1);
  const window = windowOf(c, w.shape.slice(2), x.shape.slice(2));
  const attributes: Attributes = {
    kernel_shape: ints(window.kernel),
    strides: ints(window.strides),
    dilations: ints(window.dilations),
    pads: ints(window.pads),
    group: int(group),
  };
  const trim = (v: Value) =>
    x.shape.slice(2).reduce(
      (t, size, i) =>
        dim(t.shape, i + 2) > size ? b.slice(t, { axis: i + 2, start: 0, end: size }) : t,
      v,
    );
  return [
    c.wants[0] ? trim(b.call("Conv", [dy, w], attributes)) : undefined,
    c.wants[1] ? convKernel(b, { dy: x, x: dy, window, group, shape: w.shape }) : undefined,
    c.wants[2] ? perChannel(b, dy) : undefined,
  ];
};

/** Spreads each output's gradient over its window by a depthwise transposed convolution with ones. */
const averagePool: Rule = (c) => {
  const { b } = c;
  const [x, dy] = [input(c, 0), cotangent(c)];
  const kernel = intsOf(c.attributes, "kernel_shape") ?? [];
  const spatial = x.shape.slice(2);
  const window = windowOf(c, kernel, spatial);
  const channels = dim(x.shape, 1);
  const ones = b.fill(1, { dtype: x.dtype, shape: [channels, 1, ...kernel] });
  const counts = intOf(c.attributes, "count_include_pad", 0) === 1 || all(window.pads, 0)
    ? undefined
    : windowCounts(window, spatial, dy.shape.slice(2));
  const share = counts === undefined
    ? b.mul(dy, 1 / sizeOf(kernel))
    : b.div(dy, b.table(counts, { dtype: x.dtype, shape: [1, 1, ...dy.shape.slice(2)] }));
  return [convInput(b, { dy: share, w: ones, x: x.shape, window, group: channels })];
};

/** How many real (not padding) elements each window covers. */
function windowCounts(w: Window, spatial: Shape, out: Shape): number[] {
  const axis = (i: number, o: number) => {
    let n = 0;
    for (let k = 0; k < dim(w.kernel, i); k++) {
      const at = o * dim(w.strides, i) + k * dim(w.dilations, i) - dim(w.pads, i);
      if (at >= 0 && at < dim(spatial, i)) n++;
    }
    return n;
  };
  let counts = [1];
  for (const [i, size] of out.entries()) {
    counts = counts.flatMap((n) => Array.from({ length: size }, (_, o) => n * axis(i, o)));
  }
  return counts;
}

const globalAveragePool: Rule = (c) => {
  const x = input(c, 0);
  return [c.b.expand(c.b.mul(cotangent(c), 1 / sizeOf(x.shape.slice(2))), x.shape)];
};

/** Bytes of probabilities one block of queries may take while they are recomputed. */
const BLOCK_BYTES = 32 * 2 ** 20;

/**
 * O = P V, P = softmax(s Q Kᵀ + M), per head, with P recomputed in blocks of queries so that it never exists whole:
 * dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - Σ dO ∘ O), dQ = s dS K, dK = s dSᵀ Q (Dao et al., FlashAttention, alg. 4).
 */
const attention: Rule = (c) => {
  const { b } = c;
  const [q, k, v, dy] = [input(c, 0), input(c, 1), input(c, 2), cotangent(c)];
  const [mask, out] = [c.inputs[3], c.outputs[0]];
  const heads = intOf(c.attributes, "num_heads", 1);
  const scale = floatOf(c.attributes, "scale", 1);
  const [batch = 1, queries = 1, width = 1] = q.shape;
  const keys = dim(k.shape, 1);
  const depth = width / heads;
  const split = (x: Value) =>
    b.transpose(b.reshape(x, [batch, dim(x.shape, 1), heads, depth]), [0, 2, 1, 3]);
  const merge = (x: Value) =>
    b.reshape(b.transpose(x, [0, 2, 1, 3]), [batch, dim(x.shape, 2), width]);
  const [qs, ks, vs, dos] = [split(q), split(k), split(v), split(dy)];
  const delta = b.sum(b.mul(dos, split(out ?? q)), { axes: [3] });
  const perQuery = batch * heads * keys * 4;
  const size = Math.max(1, Math.min(queries, Math.floor(BLOCK_BYTES / perQuery)));
  const dqs: Value[] = [];
  const dks: Value[] = [];
  const dvs: Value[] = [];
  const dms: Value[] = [];
  const rows = (x: Value, start: number) =>
    size === queries ? x : b.slice(x, { axis: 2, start, end: Math.min(start + size, queries) });
  for (let start = 0; start < queries; start += size) {
    const [qi, doi] = [rows(qs, start), rows(dos, start)];
    const logits = b.fusedMatMul(qi, ks, { transB: true, alpha: scale });
    const bias = mask === undefined ? undefined : maskRows(b, mask, { start, size, queries });
    const p = b.softmax(bias === undefined ? logits : b.add(logits, bias));
    const ds = b.mul(p, b.sub(b.fusedMatMul(doi, vs, { transB: true }), rows(delta, start)));
    if (c.wants[0]) dqs.push(b.fusedMatMul(ds, ks, { alpha: scale }));
    if (c.wants[1]) dks.push(b.fusedMatMul(ds, qi, { transA: true, alpha: scale }));
    if (c.wants[2]) dvs.push(b.fusedMatMul(p, doi, { transA: true }));
    if (c.wants[3]) dms.push(ds);
  }
  const total = (parts: Value[]) => parts.length === 1 ? parts[0] : b.call("Sum", parts);
  const merged = (x: Value | undefined) => x && merge(x);
  return [
    c.wants[0] ? merge(b.concat(dqs, 2)) : undefined,
    c.wants[1] ? merged(total(dks)) : undefined,
    c.wants[2] ? merged(total(dvs)) : undefined,
    c.wants[3] ? b.concat(dms, 2) : undefined,
  ];
};

function maskRows(
  b: Builder,
  mask: Value,
  { start, size, queries }: { start: number; size: number; queries: number },
): Value {
  const axis = mask.shape.length - 2;
  if (size >= queries || axis < 0 || mask.shape[axis] === 1) return mask;
  return b.slice(mask, { axis, start, end: Math.min(start + size, queries) });
}

/** Rules of contractions and windows. */
export const LINEAR_RULES = {
  MatMul: matMul,
  FusedMatMul: fusedMatMul,
  Gemm: gemm,
  Conv: conv,
  ConvTranspose: convTranspose,
  AveragePool: averagePool,
  GlobalAveragePool: globalAveragePool,
  Attention: attention,
} satisfies Record<string, Rule>;
