import type { Builder, Value } from "../autodiff/mod.ts";

/**
 * One step of a model written as a straight-line program over named values: it reads some and makes one, which goes
 * by the step's own name. Any run of consecutive segments can be a graph of its own, whose inputs are what the run
 * reads and does not make: so a long model is computed, and differentiated, piece by piece.
 */
export interface Segment<Context> {
  readonly name: string;
  /** Names of the values read: inputs of the model, or earlier segments. */
  readonly reads: readonly string[];
  build(context: Context, read: (name: string) => Value): Value;
}

/** Builds segments one after the other and returns what the last one made. */
export function compose<Context extends { readonly b: Builder }>(
  segments: readonly Segment<Context>[],
  { context, inputs }: {
    readonly context: Context;
    readonly inputs: Readonly<Record<string, Value>>;
  },
): Value {
  const values = new Map(Object.entries(inputs));
  let last: Value | undefined;
  for (const { name, reads, build } of segments) {
    const read = (wanted: string) => {
      const value = reads.includes(wanted) ? values.get(wanted) : undefined;
      if (value === undefined) throw new RangeError(`Segment "${name}" has no value "${wanted}"`);
      return value;
    };
    last = context.b.scope(name, () => build(context, read));
    values.set(name, last);
  }
  if (last === undefined) throw new RangeError("There is no segment to build");
  return last;
}
