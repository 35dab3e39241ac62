import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { isFloat } from "../tensor.ts";
import { Importer } from "./_importer.ts";
import {
  declared,
  type DeclaredValue,
  fedInputs,
  type ForeignModel,
  readModel,
} from "./_read_model.ts";
import { Scope } from "./_scope.ts";

/** What a model takes and returns. */
export interface ModelInterface {
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
}

/** Options of `importModel`. */
export interface ImportOptions {
  /** Values for all of the model's inputs, by name; their shapes freeze the dimensions the model leaves open. */
  readonly inputs: Readonly<Record<string, Value>>;
  /**
   * Inputs that the model declares as whole numbers, and that are given as floats: these go through the casts that follow
   * as they are, and so do gradients.
   */
  readonly asFloats?: readonly string[];
  /** Which outputs to append, and nothing that only others need. Default: all. */
  readonly outputs?: readonly string[];
  /** Folder of the model file relative to the weights root, forward slashes. Default: the root itself. */
  readonly folder?: string;
  /** Entries that the largest value may have. Default 2^28. */
  readonly largestValue?: number;
}

/** Reads what a model file takes and returns. Throws `ImportError`. */
export function describeModel(bytes: Uint8Array): ModelInterface {
  const model = readModel(bytes);
  return { inputs: fedInputs(model), outputs: model.graph.output.map(declared) };
}

/**
 * Appends a model file (ONNX opset 7 or newer) to a graph, and returns its outputs by name. What the model computes
 * from shapes is computed here, since a graph has none that vary; functions of its own, branches of which it is known
 * which is taken, and loops of which it is known how often they run, are written out. Tensors stored in the file become constants;
 * those stored beside it become weights that stay where they are, and must lie in the model's folder or below.
 *
 * Throws `ImportError` where the file is damaged, an input does not fit, or a node (named in the message) has an
 * operator, attribute or control flow that graphs do not have. What no output needs is not looked at.
 *
 * @example The gradient of somebody's ONNX file
 * ```ts
 * import { Builder, gradient } from "../mod.ts";
 * import { compile, CPU_TARGET } from "../../compile/mod.ts";
 *
 * // Stands for the bytes of a file.
 * const theirs = new Builder();
 * const pixels = theirs.input("pixels", { dtype: "float32", shape: [1, 3, 8, 8] });
 * const { bytes } = compile(theirs, { score: theirs.mean(theirs.tanh(pixels)) }, CPU_TARGET);
 * if (describeModel(bytes).inputs[0]?.name !== "pixels") throw new Error("Another input");
 *
 * const b = new Builder({ differentiable: true });
 * const image = b.input("image", { dtype: "float32", shape: [1, 3, 8, 8] });
 * const { score } = importModel(b, bytes, { inputs: { pixels: image } });
 * if (score === undefined) throw new Error("No score");
 * const ones = b.expand(b.scalar(1, "float32"), score.shape);
 * const [slope] = gradient(b, [{ value: score, cotangent: ones }], [image]);
 * if (slope?.shape.join() !== "1,3,8,8") throw new Error("Not of the image's shape");
 * ```
 */
export function importModel(
  b: Builder,
  bytes: Uint8Array,
  options: ImportOptions,
): Readonly<Record<string, Value>> {
  const model = readModel(bytes);
  const { graph, versions } = model;
  const scope = new Scope({ versions });
  for (const input of givenInputs(model, options)) scope.define(...input);
  const known = graph.output.map(({ name }) => name);
  const outputs = options.outputs ?? known;
  const unknown = outputs.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    const returned = known.map((name) => `"${name}"`).join(", ");
    throw new ImportError(`Output "${unknown}" is unknown; the model returns ${returned}`);
  }
  new Importer(b, model, options).graph(graph, scope, outputs);
  return Object.fromEntries(
    outputs.map((name) => {
      const value = scope.tensor(name);
      if (value === undefined) throw new ImportError("An output has no name");
      return [name, value];
    }),
  );
}

/** The caller's values for all inputs, checked against what the model declares. */
function givenInputs(
  model: ForeignModel,
  { inputs, asFloats = [] }: ImportOptions,
): readonly (readonly [string, Value])[] {
  const expected = fedInputs(model);
  const unknown = Object.keys(inputs).find((name) =>
    !expected.some((input) => input.name === name)
  );
  const takes = `the model takes ${expected.map(({ name }) => `"${name}"`).join(", ")}`;
  if (unknown !== undefined) throw new ImportError(`Input "${unknown}" is unknown; ${takes}`);
  const sizes = new Map<string, number>();
  return expected.map(({ name, dtype, shape }) => {
    const value = inputs[name];
    if (value === undefined) throw new ImportError(`Input "${name}" is missing; ${takes}`);
    // Dimensions of one name have one size, in all inputs.
    const known = shape?.map((d) => typeof d === "string" ? sizes.get(d) ?? d : d);
    const fits = known === undefined || known.length === value.shape.length &&
        known.every((d, i) => typeof d === "string" || d === value.shape[i]);
    const isOfType = value.dtype === dtype || (asFloats.includes(name) && isFloat(value.dtype));
    if (!isOfType || !fits) {
      throw new ImportError(
        `Input "${name}" is ${value.dtype}[${value.shape}], expected ${dtype}[${known}]`,
      );
    }
    for (const [i, d] of shape?.entries() ?? []) {
      if (typeof d === "string" && d !== "") sizes.set(d, value.shape[i] ?? 1);
    }
    return [name, value] as const;
  });
}
