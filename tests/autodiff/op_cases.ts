import type { OpCase } from "./cases/_case.ts";
import { ATTENTION_CASES } from "./cases/attention.ts";
import { ELEMENTWISE_CASES } from "./cases/elementwise.ts";
import { LINEAR_CASES } from "./cases/linear.ts";
import { NORM_CASES } from "./cases/norm.ts";
import { REDUCE_CASES } from "./cases/reduce.ts";
import { SHAPE_CASES } from "./cases/shape.ts";
import { WINDOW_CASES } from "./cases/window.ts";

export const OP_CASES: Readonly<Record<string, Readonly<Record<string, OpCase>>>> = {
  ...ELEMENTWISE_CASES,
  ...LINEAR_CASES,
  ...ATTENTION_CASES,
  ...WINDOW_CASES,
  ...NORM_CASES,
  ...REDUCE_CASES,
  ...SHAPE_CASES,
};
