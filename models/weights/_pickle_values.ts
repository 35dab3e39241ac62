import type { DType, Shape } from "../../autodiff/mod.ts";
import type { Float8 } from "./float8.ts";

/**
 * Element types found in PyTorch files: those of tensors here, and others that are widened when read, int16 to int32 and
 * floats of eight bits to float16.
 */
export type StoredDType = DType | "int16" | Float8;

/** A block of elements that tensors are views of; the bytes stay in the file. */
export class StorageRef {
  constructor(
    readonly key: string,
    /** Undefined for an untyped storage, whose `length` counts bytes. */
    readonly dtype: StoredDType | undefined,
    /** Elements. */
    readonly length: number,
  ) {}
}

/** A strided view of a storage. `offset` and `strides` count elements of `dtype`. */
export class TensorRef {
  constructor(
    readonly storage: StorageRef,
    readonly dtype: StoredDType,
    readonly offset: number,
    readonly shape: Shape,
    readonly strides: readonly number[],
  ) {}
}

/** A class or function named by a pickle. It is never looked up, only compared with the few names that are known. */
export class PickleGlobal {
  constructor(
    /** Module and name joined by a dot. */
    readonly name: string,
  ) {}
}

/** A Python list, set or frozenset; tuples are arrays. */
export class PickleList {
  readonly items: PickleValue[] = [];
}

/** An object that says nothing about tensors: a date, a path, a training program's settings. Its content is dropped. */
export class PickleInert {
  constructor(
    /** The class's name. */
    readonly name: string,
  ) {}
}

export type PickleTuple = readonly PickleValue[];

/** A Python dict or OrderedDict. */
export type PickleDict = Map<string | number | bigint, PickleValue>;

/** What a pickle may hold. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleInert
  | StorageRef
  | TensorRef;

/** The value's kind, for errors. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (value instanceof Map) return "dict";
  if (value instanceof PickleList) return "list";
  if (value instanceof TensorRef) return "tensor";
  if (value instanceof StorageRef) return "storage";
  if (value instanceof PickleGlobal || value instanceof PickleInert) return value.name;
  return typeof value === "object" ? "tuple" : typeof value;
}

/** Refuses, with the opcode's position added to the message. */
export type Fail = (detail: string) => never;

/** Sets one item. Keys other than text and numbers, which name no tensor, get a name by their kind. */
export function setItem(
  dict: PickleDict,
  key: PickleValue | undefined,
  value: PickleValue | undefined,
  fail: Fail,
): void {
  // Training programs key what they remember by classes.
  if (key instanceof PickleGlobal) return setItem(dict, key.name, value, fail);
  if (key === undefined || value === undefined) return fail("dictionary lacks a key or its value");
  const isKey = typeof key === "string" || typeof key === "bigint" || typeof key === "number";
  dict.set(isKey ? key : `${kindOf(key)} ${dict.size}`, value);
}

/** True for a tuple. */
export function isTuple(value: PickleValue | undefined): value is PickleTuple {
  return Array.isArray(value);
}
