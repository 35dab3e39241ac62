import type { AttributeValues, ControlOp, OpName } from "../infer/mod.ts";
import type { GradientOp } from "../stages.ts";
import type { Rule, Rules } from "./_types.ts";
import { ATTENTION_RULES } from "./attention.ts";
import { ELEMENTWISE_RULES } from "./elementwise.ts";
import { LINEAR_RULES } from "./linear.ts";
import { NORM_RULES } from "./norm.ts";
import { REDUCE_RULES } from "./reduce.ts";
import { SCATTER_RULES } from "./scatter.ts";
import { SHAPE_RULES } from "./shape.ts";
import type { StopOp } from "./stop_edges.ts";
import { WINDOW_RULES } from "./window.ts";

/** Operators that gradients flow through. */
export type DifferentiableOp = Exclude<OpName, StopOp | ControlOp | GradientOp>;

// Complete by type: an operator of the inference table needs a rule here or a stop declaration.
const TABLE: { readonly [Op in DifferentiableOp]: Rule<AttributeValues[Op]> } = {
  ...ELEMENTWISE_RULES,
  ...LINEAR_RULES,
  ...ATTENTION_RULES,
  ...WINDOW_RULES,
  ...NORM_RULES,
  ...REDUCE_RULES,
  ...SHAPE_RULES,
  ...SCATTER_RULES,
};

/** The gradient rule of every differentiable operator. */
export const RULES: Rules = TABLE;
