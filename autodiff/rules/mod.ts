import type { OpName } from "../infer/mod.ts";
import type { Rule } from "./_types.ts";
import { ELEMENTWISE_RULES } from "./elementwise.ts";
import { LINEAR_RULES } from "./linear.ts";
import { NORM_RULES } from "./norm.ts";
import { REDUCE_RULES } from "./reduce.ts";
import { SHAPE_RULES } from "./shape.ts";

const TABLE = {
  ...ELEMENTWISE_RULES,
  ...LINEAR_RULES,
  ...NORM_RULES,
  ...REDUCE_RULES,
  ...SHAPE_RULES,
} satisfies Partial<Record<OpName, Rule>>;

/** Operators with a gradient rule. */
export type DifferentiableOp = keyof typeof TABLE;

/** The gradient rule of every differentiable operator. */
export const RULES: Readonly<Partial<Record<OpName, Rule>>> = TABLE;

/** Names of all operators with a rule. */
export const DIFFERENTIABLE_OPS: readonly string[] = Object.keys(TABLE);
