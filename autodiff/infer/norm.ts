import { intOf } from "../attributes.ts";
import {
  dim,
  type Infer,
  normalizeAxis,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

const perChannel: Infer = (c) => {
  const x = requiredFloat(c, 0);
  for (let i = 1; i < c.inputs.length; i++) {
    const v = required(c, i);
    sameDType(x, v);
    if (v.shape.join() !== String(dim(x.shape, 1))) {
      throw new Error(`Input ${i} is [${v.shape}], expected [${dim(x.shape, 1)}], one per channel`);
    }
  }
  return [type(x.dtype, x.shape)];
};

/** Normalisations. */
export const NORM = {
  /** Optional outputs 1 and 2: mean and inverse standard deviation in float32, the normalised axes kept as 1. */
  LayerNormalization: (c) => {
    const x = requiredFloat(c, 0);
    const axis = normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
    const tail = x.shape.slice(axis);
    for (const i of [1, 2]) {
      const v = i === 1 ? required(c, 1) : c.inputs[2];
      if (v === undefined) continue;
      sameDType(x, v);
      if (v.shape.join() !== tail.join()) {
        throw new Error(`Input ${i} is [${v.shape}], expected [${tail}]`);
      }
    }
    const stat = x.shape.map((d, i) => i < axis ? d : 1);
    return [type(x.dtype, x.shape), type("float32", stat), type("float32", stat)];
  },
  InstanceNormalization: perChannel,
  BatchNormalization: perChannel,
  /** Opset 21's: scale and bias per channel. Written out in plain operators by the serializer. */
  GroupNormalization: (c) => {
    const x = requiredFloat(c, 0);
    const groups = intOf(c.attributes, "num_groups", 0);
    if (groups < 1 || dim(x.shape, 1) % groups !== 0) {
      throw new Error(`${dim(x.shape, 1)} channels are not a multiple of num_groups ${groups}`);
    }
    return perChannel(c);
  },
} satisfies Record<string, Infer>;
