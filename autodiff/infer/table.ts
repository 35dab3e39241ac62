import type { Infer } from "./_types.ts";
import { CONTROL } from "./control.ts";
import { ELEMENTWISE } from "./elementwise.ts";
import { LINEAR } from "./linear.ts";
import { NORM } from "./norm.ts";
import { REDUCE } from "./reduce.ts";
import { SHAPE } from "./shape.ts";
import { WINDOW } from "./window.ts";

const TABLE = { ...ELEMENTWISE, ...LINEAR, ...WINDOW, ...REDUCE, ...NORM, ...SHAPE, ...CONTROL };

/** Operators with graphs inside. What is in them is not differentiated. */
export type ControlOp = keyof typeof CONTROL;

/** True for operators with graphs inside. */
export function isControlOp(op: OpName): op is ControlOp {
  return Object.hasOwn(CONTROL, op);
}

/** Every operator a graph may hold, by its ONNX name (the few of our own and of com.microsoft's included). */
export type OpName = keyof typeof TABLE;

/** Shape and dtype inference of every operator. */
export const INFER: Readonly<Record<OpName, Infer>> = TABLE;

/** True where `name` is an operator a graph may hold. */
export function isOpName(name: string): name is OpName {
  return Object.hasOwn(TABLE, name);
}
