import type { Attributes } from "../attributes.ts";
import type { Spec } from "./_spec.ts";
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

/** The attributes of each operator as they are read, with all defaults. */
export type AttributeValues = {
  readonly [Op in OpName]: ReturnType<(typeof TABLE)[Op]["read"]>;
};

/** What a graph knows of every operator. */
export const SPECS: { readonly [Op in OpName]: Spec<AttributeValues[Op]> } = TABLE;

/** The attributes of a node of operator `op`, with the default of each that it leaves out. */
export function attributesOf<Op extends OpName>(op: Op, given: Attributes): AttributeValues[Op] {
  return SPECS[op].read(given);
}

/** True where `name` is an operator a graph may hold. */
export function isOpName(name: string): name is OpName {
  return Object.hasOwn(TABLE, name);
}
