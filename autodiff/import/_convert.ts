import type { Builder } from "../builder.ts";
import { ATTENTION } from "./convert_attention.ts";
import { INDEX } from "./convert_index.ts";
import { LOSSES } from "./convert_loss.ts";
import { MATH } from "./convert_math.ts";
import { MICROSOFT } from "./convert_microsoft.ts";
import { NORMALIZATIONS } from "./convert_norm.ts";
import { axesInput, OLD_FORMS } from "./convert_old.ts";
import { POOLS } from "./convert_pool.ts";
import { QUANTIZED } from "./convert_quantized.ts";
import { RECURRENT } from "./convert_recurrent.ts";
import { RESIZES } from "./convert_resize.ts";
import { SAMPLING } from "./convert_sampling.ts";
import { SIGNALS } from "./convert_signal.ts";
import { keep } from "./_keep.ts";
import type { Conversions, Converted, ForeignNode } from "./_node.ts";

const TABLE: Conversions = {
  ...ATTENTION,
  ...INDEX,
  ...LOSSES,
  ...MATH,
  ...MICROSOFT,
  ...NORMALIZATIONS,
  ...OLD_FORMS,
  ...POOLS,
  ...QUANTIZED,
  ...RECURRENT,
  ...RESIZES,
  ...SAMPLING,
  ...SIGNALS,
};

/** Operators that are read as others, with their domain in front where that is not ONNX's. */
export const CONVERTED: readonly string[] = Object.keys(TABLE);

/**
 * Brings a node to the form that graphs have. Throws an error on an operator that graphs do not have, or a form of one.
 */
export function convert(b: Builder, node: ForeignNode): Converted {
  const conversion = Object.hasOwn(TABLE, node.op)
    ? TABLE[node.op]
    : node.op.startsWith("Reduce")
    ? axesInput
    : undefined;
  return conversion === undefined ? keep(node) : conversion(b, node);
}
