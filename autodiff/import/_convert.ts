import { type Attribute, type Attributes, int, intOf, intsOf, string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { dim, normalizeAxis } from "../infer/_types.ts";
import { isOpName, type OpName } from "../infer/mod.ts";
import { onnxOfDType } from "../onnx_dtype.ts";
import { sizeOf } from "../tensor.ts";

/** A node of a model file, its inputs already values of the graph. */
export interface ForeignNode {
  /** Operator name; with its domain in front where that is not ONNX's. */
  readonly op: string;
  /** Version of its domain's operators. */
  readonly version: number;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
  /** How many outputs the node names. */
  readonly outputs: number;
}

/** The same operator as the newest opset writes it, ready for the graph. */
export interface Call {
  readonly op: OpName;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
}

/** Rewrites a node; returns a value where it takes other operators than one call. */
type Conversion = (b: Builder, node: ForeignNode) => Call | Value;

/** Names that mean something else here than in ONNX, or nothing there. */
const OURS: ReadonlySet<string> = new Set<OpName>([
  "Attention",
  "FusedMatMul",
  "If",
  "QuickGelu",
  "Scan",
  "StopGradient",
  "StraightThrough",
]);

/**
 * Brings a node of opset 11 to 22 to the form that graphs have. Throws `ImportError` on an operator that graphs do
 * not have, or a form of one.
 */
export function convert(b: Builder, node: ForeignNode): Call | Value {
  const conversion = CONVERSIONS.get(node.op) ??
    (node.op.startsWith("Reduce") ? axesInput : (_b: Builder, same: ForeignNode) => keep(same));
  return conversion(b, node);
}

function keep({ op, inputs, attributes }: ForeignNode): Call {
  if (!isOpName(op) || OURS.has(op)) throw new ImportError(`Operator ${op} is not supported`);
  const neutral = NEUTRAL[op] ?? {};
  const kept = Object.entries(attributes).filter(([key, { value }]) => {
    const allowed = neutral[key];
    if (allowed === undefined || allowed === "any") return allowed === undefined;
    if (value === allowed) return false;
    throw new ImportError(`Attribute ${key} is ${value}, expected ${allowed}`);
  });
  return { op, inputs, attributes: Object.fromEntries(kept) };
}

/** Attributes that change nothing here: whatever their value, or as long as they have the one given. */
const NEUTRAL: Partial<Record<OpName, Readonly<Record<string, number | string>>>> = {
  BatchNormalization: { momentum: "any", spatial: 1, training_mode: 0 },
  Cast: { saturate: "any", round_mode: "any" },
  Dropout: { ratio: "any", seed: "any" },
  GroupNormalization: { stash_type: 1 },
  LayerNormalization: { stash_type: 1 },
  MaxPool: { storage_order: 0 },
  Resize: { extrapolation_value: "any" },
};

function without(attributes: Attributes, name: string): Attributes {
  const { [name]: _, ...rest } = attributes;
  return rest;
}

/** Axes that older opsets have as an attribute. */
const axesInput: Conversion = (b, node) => {
  const axes = intsOf(node.attributes, "axes");
  const call = keep({ ...node, attributes: without(node.attributes, "axes") });
  return axes === undefined ? call : { ...call, inputs: [node.inputs[0], b.ints(axes)] };
};

/** An equal split, or one by an attribute, as a split by sizes. */
const split: Conversion = (b, node) => {
  const { inputs: [x, given], attributes, outputs } = node;
  const total = dim(
    x?.shape ?? [],
    normalizeAxis(intOf(attributes, "axis", 0), x?.shape.length ?? 0),
  );
  const count = intOf(attributes, "num_outputs", outputs);
  const part = Math.ceil(total / count);
  const equal = Array.from({ length: count }, (_, i) => Math.min(part, total - part * i));
  const sizes = given ?? b.ints(intsOf(attributes, "split") ?? equal);
  return {
    op: "Split",
    inputs: [x, sizes],
    attributes: { axis: int(intOf(attributes, "axis", 0)) },
  };
};

/** Before opset 13 softmax is over all axes from `axis` on, which is 1 where it is not given. */
const softmax: Conversion = (b, node) => {
  const [x] = node.inputs;
  const call = keep(node);
  if (node.version >= 13 || x === undefined) return call;
  const axis = normalizeAxis(intOf(node.attributes, "axis", 1), x.shape.length);
  if (axis === x.shape.length - 1) return { ...call, attributes: { axis: int(-1) } };
  const flat = b.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
  return b.reshape(b.call(call.op, [flat], { axis: int(-1) }), x.shape);
};

/** Before opset 21 scale and bias are per group. */
const groupNorm: Conversion = (b, node) => {
  const call = keep(node);
  const [x, ...perGroup] = node.inputs;
  if (node.version >= 21 || x === undefined) return call;
  const [channels, groups] = [dim(x.shape, 1), intOf(node.attributes, "num_groups", 1)];
  const perChannel = perGroup.map((v) =>
    v && b.reshape(b.expand(b.reshape(v, [groups, 1]), [groups, channels / groups]), [channels])
  );
  return { ...call, inputs: [x, ...perChannel] };
};

/** A region of interest, and empty scales or sizes, say nothing. */
const resize: Conversion = (_b, node) => {
  const [x, , scales, sizes] = node.inputs;
  const given = (v: Value | undefined) => v !== undefined && sizeOf(v.shape) > 0 ? v : undefined;
  return { ...keep(node), inputs: [x, undefined, given(scales), given(sizes)] };
};

const batchNorm: Conversion = (_b, node) => {
  if (node.outputs > 1) throw new ImportError("BatchNormalization in training is not supported");
  return keep(node);
};

const castLike: Conversion = (_b, { inputs: [x, like] }) => ({
  op: "Cast",
  inputs: [x],
  attributes: { to: int(like === undefined ? 0 : onnxOfDType(like.dtype)) },
});

const contrib =
  (op: OpName, fixed: Readonly<Record<string, Attribute>> = {}): Conversion => (_b, node) => ({
    op,
    inputs: node.inputs,
    attributes: { ...node.attributes, ...fixed },
  });

const CONVERSIONS: ReadonlyMap<string, Conversion> = new Map([
  ["BatchNormalization", batchNorm],
  ["CastLike", castLike],
  ["GroupNormalization", groupNorm],
  ["LogSoftmax", softmax],
  ["Resize", resize],
  ["Softmax", softmax],
  ["Split", split],
  ["Squeeze", axesInput],
  ["Unsqueeze", axesInput],
  ["com.microsoft.FusedMatMul", contrib("FusedMatMul")],
  ["com.microsoft.Gelu", contrib("Gelu", { approximate: string("none") })],
  ["com.microsoft.QuickGelu", contrib("QuickGelu")],
]);
