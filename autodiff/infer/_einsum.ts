import type { Shape } from "../tensor.ts";
import { dim } from "./_types.ts";

/** An Einsum's equation with every ellipsis written out: one letter for each dimension. */
export interface Equation {
  /** Letters of each operand's dimensions. */
  readonly terms: readonly string[];
  readonly output: string;
  /** Size of every letter. */
  readonly sizes: ReadonlyMap<string, number>;
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Reads an Einsum equation against its operands' shapes. Throws where they do not fit or a term repeats a letter. */
export function parseEquation(equation: string, shapes: readonly Shape[]): Equation {
  const text = equation.replaceAll(" ", "");
  const [left = "", right, ...more] = text.split("->");
  const given = left.split(",");
  if (given.length !== shapes.length || more.length > 0) {
    throw new Error(`Equation "${equation}" has ${given.length} terms for ${shapes.length} inputs`);
  }
  const ranks = given.map((term, i) => (shapes[i]?.length ?? 0) - term.replace("...", "").length);
  const free = [...LETTERS].filter((letter) => !text.includes(letter)).join("");
  const wide = ranks[given.findIndex((term) => term.includes("..."))] ?? 0;
  const terms = given.map((term) => term.replace("...", free.slice(0, wide)));
  const output = (right ?? implicitOutput(given)).replace("...", free.slice(0, wide));
  if (right !== undefined && left.includes("...") !== right.includes("...")) {
    throw new Error(`Equation "${equation}" has an ellipsis on one side only`);
  }
  const sizes = new Map<string, number>();
  for (const [i, term] of terms.entries()) {
    const shape = shapes[i] ?? [];
    if (!/^[a-zA-Z]*$/.test(term) || term.length !== shape.length) {
      throw new Error(`Term "${given[i]}" does not fit shape [${shape}]`);
    }
    if (new Set(term).size !== term.length) {
      throw new Error(`Term "${given[i]}" repeats a letter, which is not supported`);
    }
    for (const [k, letter] of [...term].entries()) {
      const size = dim(shape, k);
      if ((sizes.get(letter) ?? size) !== size) {
        throw new Error(
          `Letter ${letter} of "${equation}" is both ${sizes.get(letter)} and ${size}`,
        );
      }
      sizes.set(letter, size);
    }
  }
  if (new Set(output).size !== output.length || [...output].some((l) => !sizes.has(l))) {
    throw new Error(`Output "${right}" repeats a letter or has one that no term has`);
  }
  return { terms, output, sizes };
}

/** Without "->": the letters that occur once, in alphabetical order, after the ellipsis. */
function implicitOutput(terms: readonly string[]): string {
  const all = terms.join("").replaceAll("...", "");
  const once = [...all].filter((l) => all.indexOf(l) === all.lastIndexOf(l)).sort().join("");
  return (terms.some((term) => term.includes("...")) ? "..." : "") + once;
}
