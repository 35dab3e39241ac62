import { type Attributes, float, int, ints, string } from "./attributes.ts";
import { type Body, Graph, type Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { onnxOfDType } from "./onnx_dtype.ts";
import { castNumber, type DType, int64, type Shape, sizeOf } from "./tensor.ts";

/** A graph value, or a number that becomes a scalar constant of the other operand's dtype. */
export type Operand = Value | number;

/** How a builder writes what can be written in more than one way. */
export interface BuilderOptions {
  /**
   * The graph will be differentiated, which may make another way of writing it the cheaper one. Default false.
   */
  readonly differentiable?: boolean;
}

/** Options of a reduction. */
export interface ReduceOptions {
  /** Axes to reduce; all by default. */
  readonly axes?: readonly number[];
  /** Keep reduced axes with size 1. Default true, as in ONNX. */
  readonly keepDims?: boolean;
}

/** Geometry of a two-dimensional convolution. */
export interface ConvOptions {
  readonly bias?: Value;
  readonly stride?: number;
  /** Padding on all sides, or [top, left, bottom, right]. */
  readonly padding?: number | readonly [number, number, number, number];
  readonly groups?: number;
}

/** Writes ONNX operators by their usual names. Every method appends to the graph and returns the value it made. */
export class Builder extends Graph {
  readonly differentiable: boolean;

  constructor(options: BuilderOptions = {}, outer?: Builder) {
    super(outer);
    this.differentiable = options.differentiable ?? false;
  }

  /** A builder of the graph inside one of this graph's nodes. */
  inside(): Builder {
    return new Builder(this, this);
  }

  /** What `yes` gives where a boolean scalar holds, else what `no` gives; the other is not computed. */
  either(
    condition: Value,
    { yes, no }: {
      readonly yes: (b: Builder) => readonly Value[];
      readonly no: (b: Builder) => readonly Value[];
    },
  ): readonly Value[] {
    const branch = (write: (b: Builder) => readonly Value[]): Body => {
      const graph = this.inside();
      return { graph, outputs: write(graph) };
    };
    return this.control("If", [condition], {
      bodies: { then_branch: branch(yes), else_branch: branch(no) },
    });
  }

  /**
   * Runs `body` for each row along the first axis of `rows`, one after the other: what one run returns as states the
   * next one gets. Returns the last states, then the other results of all runs, along a new first axis.
   */
  scan(
    { states = [], rows }: {
      readonly states?: readonly Value[];
      readonly rows: readonly Value[];
    },
    body: (
      b: Builder,
      inputs: { readonly states: readonly Value[]; readonly rows: readonly Value[] },
    ) => { readonly states?: readonly Value[]; readonly rows: readonly Value[] },
  ): readonly Value[] {
    return this.scope("Scan", () => {
      const graph = this.inside();
      const declare = (what: string, { dtype }: Value, shape: Shape) =>
        graph.bodyInput(what, { dtype, shape });
      const made = body(graph, {
        states: states.map((v) => declare("state", v, v.shape)),
        rows: rows.map((v) => declare("row", v, v.shape.slice(1))),
      });
      return this.control("Scan", [...states, ...rows], {
        attributes: { num_scan_inputs: int(rows.length) },
        bodies: { body: { graph, outputs: [...made.states ?? [], ...made.rows] } },
      });
    });
  }

  /** The first output of an operator. */
  call(op: OpName, inputs: readonly (Value | undefined)[], attributes: Attributes = {}): Value {
    const [y] = this.op(op, inputs, attributes);
    if (y === undefined) throw new RangeError(`${op} has no output`);
    return y;
  }

  /** A constant filled with one number. */
  fill(value: number, { dtype, shape }: { dtype: DType; shape: Shape }): Value {
    return this.constant(
      castNumber(Array.from({ length: sizeOf(shape) }, () => value), { dtype, shape }),
    );
  }

  /** A scalar constant. */
  scalar(value: number, dtype: DType): Value {
    return this.constant(castNumber([value], { dtype, shape: [] }));
  }

  /** A constant vector of int64, as shapes and axes need. */
  ints(values: readonly number[]): Value {
    return this.constant(int64(BigInt64Array.from(values, BigInt), [values.length]));
  }

  /** A constant of `dtype` from numbers; the usual way to embed a table computed in float64. */
  table(values: ArrayLike<number>, { dtype, shape }: { dtype: DType; shape: Shape }): Value {
    return this.constant(castNumber(values, { dtype, shape }));
  }

  #pair(op: OpName, a: Operand, b: Operand): Value {
    const dtype = typeof a !== "number" ? a.dtype : typeof b !== "number" ? b.dtype : "float32";
    const left = typeof a === "number" ? this.scalar(a, dtype) : a;
    const right = typeof b === "number" ? this.scalar(b, dtype) : b;
    return this.call(op, [left, right]);
  }

  add(a: Operand, b: Operand): Value {
    return this.#pair("Add", a, b);
  }
  sub(a: Operand, b: Operand): Value {
    return this.#pair("Sub", a, b);
  }
  mul(a: Operand, b: Operand): Value {
    return this.#pair("Mul", a, b);
  }
  div(a: Operand, b: Operand): Value {
    return this.#pair("Div", a, b);
  }
  pow(a: Operand, b: Operand): Value {
    return this.#pair("Pow", a, b);
  }
  min(a: Operand, b: Operand): Value {
    return this.#pair("Min", a, b);
  }
  max(a: Operand, b: Operand): Value {
    return this.#pair("Max", a, b);
  }
  greater(a: Operand, b: Operand): Value {
    return this.#pair("Greater", a, b);
  }
  greaterOrEqual(a: Operand, b: Operand): Value {
    return this.#pair("GreaterOrEqual", a, b);
  }
  less(a: Operand, b: Operand): Value {
    return this.#pair("Less", a, b);
  }
  and(a: Value, b: Value): Value {
    return this.call("And", [a, b]);
  }
  equal(a: Operand, b: Operand): Value {
    return this.#pair("Equal", a, b);
  }
  neg(x: Value): Value {
    return this.call("Neg", [x]);
  }
  abs(x: Value): Value {
    return this.call("Abs", [x]);
  }
  sign(x: Value): Value {
    return this.call("Sign", [x]);
  }
  exp(x: Value): Value {
    return this.call("Exp", [x]);
  }
  log(x: Value): Value {
    return this.call("Log", [x]);
  }
  sqrt(x: Value): Value {
    return this.call("Sqrt", [x]);
  }
  reciprocal(x: Value): Value {
    return this.call("Reciprocal", [x]);
  }
  sin(x: Value): Value {
    return this.call("Sin", [x]);
  }
  cos(x: Value): Value {
    return this.call("Cos", [x]);
  }
  tanh(x: Value): Value {
    return this.call("Tanh", [x]);
  }
  sigmoid(x: Value): Value {
    return this.call("Sigmoid", [x]);
  }
  relu(x: Value): Value {
    return this.call("Relu", [x]);
  }
  /** alpha (e^x - 1) below 0, x above. */
  elu(x: Value, alpha = 1): Value {
    return this.call("Elu", [x], { alpha: float(alpha) });
  }
  erf(x: Value): Value {
    return this.call("Erf", [x]);
  }
  /** Rounds half to even. Its derivative is zero: see `straightThrough` for another. */
  round(x: Value): Value {
    return this.call("Round", [x]);
  }
  /** Exact GELU, x Φ(x), or its tanh approximation. */
  gelu(x: Value, approximate: "none" | "tanh" = "none"): Value {
    return this.call("Gelu", [x], { approximate: string(approximate) });
  }
  /** x sigmoid(1.702 x), as OpenAI's CLIP. */
  quickGelu(x: Value): Value {
    return this.call("QuickGelu", [x], { alpha: float(1.702) });
  }
  /** x sigmoid(x), also called swish. */
  silu(x: Value): Value {
    return this.call("QuickGelu", [x], { alpha: float(1) });
  }
  where(condition: Value, x: Value, y: Value): Value {
    return this.call("Where", [condition, x, y]);
  }
  cast(x: Value, to: DType): Value {
    return x.dtype === to ? x : this.call("Cast", [x], { to: int(onnxOfDType(to)) });
  }
  identity(x: Value): Value {
    return this.call("Identity", [x]);
  }
  /** x, through which no gradient flows. */
  stopGradient(x: Value): Value {
    return this.call("StopGradient", [x]);
  }
  /** The value of `forward` with the gradient of `x`: d/dx is the identity. Shapes must agree. */
  straightThrough(x: Value, forward: Value): Value {
    return this.call("StraightThrough", [x, forward]);
  }

  matMul(a: Value, b: Value): Value {
    return this.call("MatMul", [a, b]);
  }
  /** alpha op(a) op(b), where op swaps the last two axes if asked. */
  fusedMatMul(
    a: Value,
    b: Value,
    options: { transA?: boolean; transB?: boolean; alpha?: number } = {},
  ): Value {
    return this.call("FusedMatMul", [a, b], {
      transA: int(options.transA ? 1 : 0),
      transB: int(options.transB ? 1 : 0),
      alpha: float(options.alpha ?? 1),
    });
  }
  /** op(a) op(b) + bias for matrices. */
  gemm(
    a: Value,
    b: Value,
    options: { bias?: Value; transA?: boolean; transB?: boolean; alpha?: number } = {},
  ): Value {
    const inputs = options.bias === undefined ? [a, b] : [a, b, options.bias];
    return this.call("Gemm", inputs, {
      transA: int(options.transA ? 1 : 0),
      transB: int(options.transB ? 1 : 0),
      alpha: float(options.alpha ?? 1),
    });
  }
  /** x wᵀ + bias over the last axis of x, with w [out, in] as PyTorch keeps it. */
  linear(x: Value, weight: Value, bias?: Value): Value {
    const width = x.shape.at(-1) ?? 1;
    const rows = this.reshape(x, [sizeOf(x.shape) / width, width]);
    const y = this.gemm(rows, weight, { transB: true, ...(bias === undefined ? {} : { bias }) });
    return this.reshape(y, [...x.shape.slice(0, -1), weight.shape[0] ?? 1]);
  }
  /** Two-dimensional convolution, x [B, C, H, W], w [O, C/groups, kh, kw]. */
  conv2d(x: Value, weight: Value, options: ConvOptions = {}): Value {
    const { stride = 1, padding = 0, groups = 1, bias } = options;
    const pads = typeof padding === "number" ? [padding, padding, padding, padding] : padding;
    return this.call("Conv", bias === undefined ? [x, weight] : [x, weight, bias], {
      kernel_shape: ints(weight.shape.slice(2)),
      strides: ints([stride, stride]),
      pads: ints(pads),
      group: int(groups),
    });
  }

  softmax(x: Value, axis = -1): Value {
    return this.call("Softmax", [x], { axis: int(axis) });
  }
  /** Over the last axis; scale and bias have its size. */
  layerNorm(x: Value, options: { scale: Value; bias?: Value; epsilon: number }): Value {
    const { scale, bias, epsilon } = options;
    const inputs = bias === undefined ? [x, scale] : [x, scale, bias];
    return this.call("LayerNormalization", inputs, { axis: int(-1), epsilon: float(epsilon) });
  }
  /** Over groups of channels of x [B, C, ...]; scale and bias have C entries. Then silu, if asked for. */
  groupNorm(
    x: Value,
    options: { groups: number; scale: Value; bias: Value; epsilon: number; silu?: boolean },
  ): Value {
    const { groups, scale, bias, epsilon, silu = false } = options;
    return this.call("GroupNormalization", [x, scale, bias], {
      num_groups: int(groups),
      epsilon: float(epsilon),
      ...(silu && { activation: string("silu") }),
    });
  }

  /**
   * softmax(q kᵀ · scale + mask) v per head. q [B, N, H·D]; k and v [B, M, H·D]; mask additive, broadcastable to
   * [B, H, N, M]. `scale` defaults to 1/√D. Returns [B, N, H·D].
   */
  attention(
    q: Value,
    k: Value,
    v: Value,
    options: { heads: number; scale?: number; mask?: Value },
  ): Value {
    const { heads, mask } = options;
    const scale = options.scale ?? 1 / Math.sqrt((q.shape[2] ?? 1) / heads);
    return this.call("Attention", mask === undefined ? [q, k, v] : [q, k, v, mask], {
      num_heads: int(heads),
      scale: float(scale),
    });
  }

  /** Sum of values of one shape. */
  total(values: readonly Value[]): Value {
    const [first, ...rest] = values;
    if (first === undefined) throw new RangeError("A total needs at least one value");
    return rest.reduce((sum, v) => this.add(sum, v), first);
  }
  #reduce(op: OpName, x: Value, options: ReduceOptions): Value {
    const { axes, keepDims = true } = options;
    const keepdims = int(keepDims ? 1 : 0);
    return axes === undefined
      ? this.call(op, [x], { keepdims })
      : axes.length === 0
      ? x
      : this.call(op, [x, this.ints(axes)], { keepdims });
  }
  sum(x: Value, options: ReduceOptions = {}): Value {
    return this.#reduce("ReduceSum", x, options);
  }
  mean(x: Value, options: ReduceOptions = {}): Value {
    return this.#reduce("ReduceMean", x, options);
  }
  maxOf(x: Value, options: ReduceOptions = {}): Value {
    return this.#reduce("ReduceMax", x, options);
  }
  minOf(x: Value, options: ReduceOptions = {}): Value {
    return this.#reduce("ReduceMin", x, options);
  }
  /** √Σx². */
  l2Norm(x: Value, options: ReduceOptions = {}): Value {
    return this.#reduce("ReduceL2", x, options);
  }

  /** x in another shape; one dimension may be -1. Returns x itself where nothing changes. */
  reshape(x: Value, shape: Shape): Value {
    return x.shape.join() === shape.join() ? x : this.call("Reshape", [x, this.ints(shape)]);
  }
  transpose(x: Value, perm: readonly number[]): Value {
    return perm.every((p, i) => p === i) ? x : this.call("Transpose", [x], { perm: ints(perm) });
  }
  concat(values: readonly Value[], axis: number): Value {
    const [only] = values;
    return values.length === 1 && only !== undefined
      ? only
      : this.call("Concat", values, { axis: int(axis) });
  }
  /** Parts of the given sizes along an axis. */
  split(x: Value, sizes: readonly number[], axis: number): readonly Value[] {
    return this.op("Split", [x, this.ints(sizes)], { axis: int(axis) });
  }
  /** x[start:end:step] along one axis. */
  slice(
    x: Value,
    options: { axis: number; start: number; end: number; step?: number },
  ): Value {
    const { axis, start, end, step = 1 } = options;
    return this.call("Slice", [
      x,
      this.ints([start]),
      this.ints([end]),
      this.ints([axis]),
      this.ints([step]),
    ]);
  }
  /** x with the order of its entries reversed along some axes. */
  reverse(x: Value, axes: readonly number[]): Value {
    if (axes.length === 0) return x;
    const all = (value: number) => this.ints(axes.map(() => value));
    // From the last entry down to before the first: ONNX writes "before the first" as a very negative end.
    return this.call("Slice", [x, all(-1), all(-(2 ** 31)), this.ints(axes), all(-1)]);
  }
  /** Pads with a constant (0 by default), edge values or reflections. `pads` are begins then ends of all axes. */
  pad(
    x: Value,
    options: { pads: readonly number[]; mode?: "constant" | "edge" | "reflect"; value?: number },
  ): Value {
    const { pads, mode = "constant", value = 0 } = options;
    if (pads.every((p) => p === 0)) return x;
    return this.call("Pad", [x, this.ints(pads), this.scalar(value, x.dtype)], {
      mode: string(mode),
    });
  }
  expand(x: Value, shape: Shape): Value {
    return x.shape.join() === shape.join() ? x : this.call("Expand", [x, this.ints(shape)]);
  }
  unsqueeze(x: Value, axes: readonly number[]): Value {
    return this.call("Unsqueeze", [x, this.ints(axes)]);
  }
  squeeze(x: Value, axes: readonly number[]): Value {
    return this.call("Squeeze", [x, this.ints(axes)]);
  }
  /** Rows of x along an axis at int indices. */
  gather(x: Value, indices: Value, axis = 0): Value {
    return this.call("Gather", [x, indices], { axis: int(axis) });
  }
  /** x with updates added at indices along an axis, as `ScatterElements`. */
  scatterAdd(x: Value, indices: Value, updates: Value, axis = 0): Value {
    const attributes = { axis: int(axis), reduction: string("add") };
    return this.call("ScatterElements", [x, indices, updates], attributes);
  }
  /** x with updates added at coordinates, as `ScatterND`. */
  scatterNdAdd(x: Value, indices: Value, updates: Value): Value {
    return this.call("ScatterND", [x, indices, updates], { reduction: string("add") });
  }
  /** [B, C·n², H, W] to [B, C, n·H, n·W]: channel (n·i + j)·C + c goes to row i and column j of block pixel c. */
  depthToSpace(x: Value, blocksize: number): Value {
    return this.call("DepthToSpace", [x], { blocksize: int(blocksize) });
  }
  /** Nearest-neighbour enlargement of x [B, C, H, W] by a whole factor. */
  upsampleNearest(x: Value, factor: number): Value {
    const [b = 1, c = 1, h = 1, w = 1] = x.shape;
    return this.call("Resize", [
      x,
      undefined,
      undefined,
      this.ints([b, c, h * factor, w * factor]),
    ], {
      mode: string("nearest"),
      coordinate_transformation_mode: string("asymmetric"),
      nearest_mode: string("floor"),
    });
  }
}
