import { ElementwiseBuilder } from "./_elementwise_builder.ts";
import { type Attributes, float, int, ints, string } from "./attributes.ts";
import type { Body, Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { type Shape, sizeOf } from "./tensor.ts";

export type { Operand } from "./_elementwise_builder.ts";

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
export class Builder extends ElementwiseBuilder {
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
  /** x with updates added at indices along an axis, as `ScatterElements`; halves are added up in float32. */
  scatterAdd(x: Value, indices: Value, updates: Value, axis = 0): Value {
    return this.#scattered("ScatterElements", [x, indices, updates], { axis: int(axis) });
  }
  /** x with updates added at coordinates, as `ScatterND`; halves are added up in float32. */
  scatterNdAdd(x: Value, indices: Value, updates: Value): Value {
    return this.#scattered("ScatterND", [x, indices, updates], {});
  }
  #scattered(
    op: "ScatterElements" | "ScatterND",
    [x, indices, updates]: readonly [Value, Value, Value],
    attributes: Attributes,
  ): Value {
    const isHalf = x.dtype === "float16" || x.dtype === "bfloat16";
    const [wide, added] = isHalf
      ? [this.cast(x, "float32"), this.cast(updates, "float32")]
      : [x, updates];
    const sum = this.call(op, [wide, indices, added], { ...attributes, reduction: string("add") });
    return isHalf ? this.cast(sum, x.dtype) : sum;
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
