import type { AttributeValues, OpName } from "../autodiff/infer/mod.ts";
import type { Builder, Value } from "../autodiff/mod.ts";
import type { Policy } from "./policy.ts";

/** What a lowering sees of a node with attributes `A`. */
export interface LoweringContext<A = unknown> {
  readonly attributes: A;
  readonly policy: Policy;
  /** True where something reads output `i`. */
  readonly isRead: (i: number) => boolean;
}

/**
 * An operator written in others, from a node's inputs: its outputs, the first at least. "kernel" where the runtime has one
 * for it as it is.
 */
export type Lowering<A = unknown> = (
  b: Builder,
  inputs: readonly (Value | undefined)[],
  context: LoweringContext<A>,
) => Value | readonly (Value | undefined)[] | "kernel";

/** Lowerings by operator, each of the attributes that its operator has. */
export type Lowerings = { readonly [Op in OpName]?: Lowering<AttributeValues[Op]> };
