import { FieldError } from "./errors.ts";
import type { Parameters } from "./tensors.ts";

/** Sides of a shape; a name stands for any number. */
type Sides = readonly (number | string)[];

/**
 * What a case draws at random must have the shapes expected, where it is given, and be finite. Throws `FieldError` naming
 * the tensor, its file, what was found and what was expected.
 */
export function checkDrawn(
  inputs: Parameters,
  expected: Readonly<Record<string, Sides>>,
  options: { readonly file: string },
): void {
  for (const [name, shape] of Object.entries(expected)) {
    const found = inputs[name];
    if (found === undefined) continue;
    const fits = found.shape.length === shape.length &&
      shape.every((d, i) => typeof d === "string" || d === found.shape[i]);
    if (!fits) {
      throw new FieldError(name, `has shape [${found.shape}], expected [${shape}]`, options);
    }
    const at = found.data.findIndex((v) => !Number.isFinite(v));
    if (at < 0) continue;
    throw new FieldError(name, `is ${found.data[at]} at ${at}, expected finite numbers`, options);
  }
}
