import type { Builder, Value } from "../autodiff/mod.ts";

/**
 * One instruction of a model written as a straight-line program over named values: it reads some and makes one, which goes
 * by the instruction's own name. Any run of consecutive segments can be a graph of its own, whose inputs are what the run
 * reads and does not make: so a long model is computed, and differentiated, piece by piece.
 */
export interface Segment<Context> {
  readonly name: string;
  /** Names of the values read: inputs of the model, or earlier segments. */
  readonly reads: readonly string[];
  build(context: Context, read: (name: string) => Value): Value;
}

/** Consecutive segments that make a graph of their own. */
export interface Piece<Context> {
  readonly segments: readonly Segment<Context>[];
  /** Values that it reads and does not make, in the order of their first use. */
  readonly reads: readonly string[];
  /** Values it makes that later pieces read; the last piece makes the result. */
  readonly makes: readonly string[];
}

/** Cuts segments into pieces of the given lengths, which add up to all of them. */
export function cut<Context>(
  segments: readonly Segment<Context>[],
  lengths: readonly number[],
): readonly Piece<Context>[] {
  if (lengths.reduce((sum, n) => sum + n, 0) !== segments.length || lengths.some((n) => n < 1)) {
    throw new RangeError(`Pieces of ${lengths} segments do not make ${segments.length}`);
  }
  let start = 0;
  return lengths.map((length) => {
    const [own, later] = [
      segments.slice(start, start + length),
      segments.slice(start + length),
    ];
    start += length;
    const made = new Set(own.map(({ name }) => name));
    const wanted = new Set(later.flatMap(({ reads }) => reads));
    return {
      segments: own,
      reads: [...new Set(own.flatMap(({ reads }) => reads))].filter((name) => !made.has(name)),
      makes: later.length === 0
        ? own.slice(-1).map(({ name }) => name)
        : [...made].filter((name) => wanted.has(name)),
    };
  });
}

/** Builds segments one after the other and returns what the last one made. */
export function compose<Context extends { readonly b: Builder }>(
  segments: readonly Segment<Context>[],
  options: {
    readonly context: Context;
    readonly inputs: Readonly<Record<string, Value>>;
  },
): Value {
  const last = composeAll(segments, options).get(segments.at(-1)?.name ?? "");
  if (last === undefined) throw new RangeError("There is no segment to build");
  return last;
}

/** Builds segments one after the other and returns every value by its name, inputs too. */
export function composeAll<Context extends { readonly b: Builder }>(
  segments: readonly Segment<Context>[],
  { context, inputs }: {
    readonly context: Context;
    readonly inputs: Readonly<Record<string, Value>>;
  },
): ReadonlyMap<string, Value> {
  const values = new Map(Object.entries(inputs));
  for (const { name, reads, build } of segments) {
    const read = (wanted: string) => {
      const value = reads.includes(wanted) ? values.get(wanted) : undefined;
      if (value === undefined) throw new RangeError(`Segment "${name}" has no value "${wanted}"`);
      return value;
    };
    values.set(name, context.b.scope(name, () => build(context, read)));
  }
  return values;
}
