import type { AttributeReader } from "../attributes.ts";
import { sizeOf } from "../tensor.ts";
import { spec } from "./_spec.ts";
import {
  dim,
  type Infer,
  normalizeAxis,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

const perChannel = (count: number): Infer => (c) => {
  const x = requiredFloat(c, 0);
  const channels = dim(x.shape, 1);
  for (let i = 1; i <= count; i++) {
    const v = required(c, i);
    sameDType(x, v);
    if (v.shape.join() !== String(channels)) {
      throw new Error(`Input ${i} is [${v.shape}], expected [${channels}], one per channel`);
    }
  }
  return [type(x.dtype, x.shape)];
};

const withEpsilon = (r: AttributeReader) => ({ epsilon: r.float("epsilon", 1e-5) });

const groupAttributes = (r: AttributeReader) => ({
  /** "none" or "silu". */
  activation: r.string("activation", "none"),
  ...withEpsilon(r),
  num_groups: r.int("num_groups"),
});

/** Normalizations. */
export const NORM = {
  /** Optional outputs 1 and 2: mean and inverse standard deviation in float32, the normalized axes kept as 1. */
  LayerNormalization: spec((r) => ({ axis: r.int("axis", -1), ...withEpsilon(r) }), (c) => {
    const x = requiredFloat(c, 0);
    const axis = normalizeAxis(c.attributes.axis, x.shape.length);
    const tail = x.shape.slice(axis);
    for (const [i, v] of [required(c, 1), c.inputs[2]].entries()) {
      if (v === undefined) continue;
      sameDType(x, v);
      if (v.shape.join() !== tail.join()) {
        throw new Error(`Input ${i + 1} is [${v.shape}], expected [${tail}]`);
      }
    }
    const statistic = type("float32", x.shape.map((d, i) => i < axis ? d : 1));
    return [type(x.dtype, x.shape), statistic, statistic];
  }),
  InstanceNormalization: spec(withEpsilon, perChannel(2)),
  /** In inference only, with the given mean and variance. */
  BatchNormalization: spec(withEpsilon, perChannel(4)),
  /**
   * Opset 21's: scale and bias per channel; with `activation` "silu" the result goes through that. Written out in plain
   * operators by the compiler; the other outputs are for the gradient: what `groupNormalize` returns, and what goes
   * through the activation.
   */
  GroupNormalization: spec(groupAttributes, (c) => {
    const x = requiredFloat(c, 0);
    const groups = c.attributes.num_groups;
    if (groups < 1 || dim(x.shape, 1) % groups !== 0) {
      throw new Error(`${dim(x.shape, 1)} channels are not a multiple of num_groups ${groups}`);
    }
    const rows = dim(x.shape, 0) * groups;
    return [
      ...perChannel(2)(c),
      type(x.dtype, [rows, sizeOf(x.shape) / rows]),
      type(x.dtype, [rows, 1]),
      type(x.dtype, x.shape),
    ];
  }),
  /**
   * The gradients of `GroupNormalization` by x, scale and bias. Inputs: x, scale, bias, what arrives at the result, and
   * all outputs of the forward pass, of which the compiler reads those it chooses to keep.
   */
  GroupNormalizationGrad: spec(groupAttributes, (c) =>
    [0, 1, 2].map((i) => {
      const { dtype, shape } = required(c, i);
      return type(dtype, shape);
    })),
};
