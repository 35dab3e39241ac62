import {
  askedFor,
  type Attribute,
  type AttributeReader,
  type Attributes,
  readerOf,
} from "../attributes.ts";
import type { ValueType } from "../value_type.ts";
import type { Infer, InferContext } from "./_types.ts";

/** What a graph knows of an operator: which attributes it may have, `A` as they are read, and the types of its outputs. */
export interface Spec<A> {
  /** Types of the attributes by their names. */
  readonly attributes: ReadonlyMap<string, Attribute["type"]>;
  /** The attributes of a node, with the default of each that it leaves out. Throws where a required one is missing. */
  readonly read: (given: Attributes) => A;
  /** Types of all outputs; throws an Error with the reason where the inputs or attributes do not fit. */
  readonly infer: (c: InferContext<Attributes>) => readonly ValueType[];
}

/** The spec of an operator whose attributes and their defaults are what `attributes` reads. */
export function spec<A>(attributes: (read: AttributeReader) => A, infer: Infer<A>): Spec<A> {
  const read = (given: Attributes) => attributes(readerOf(given));
  return {
    attributes: askedFor(attributes),
    read,
    infer: (c) => infer({ ...c, attributes: read(c.attributes) }),
  };
}

/** The spec of an operator without attributes. */
export function plain(infer: Infer): Spec<unknown> {
  return { attributes: new Map(), read: () => undefined, infer };
}
