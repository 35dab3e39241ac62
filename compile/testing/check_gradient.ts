import { AssertionError } from "node:assert/strict";
import {
  Builder,
  type BuilderOptions,
  castNumber,
  gradient,
  isFloat,
  sizeOf,
  type Tensor,
  type Value,
} from "../../autodiff/mod.ts";
import { PLAIN_POLICY, type Policy } from "../policy.ts";
import { serialize } from "../serialize.ts";
import { mapValues } from "./_map_values.ts";
import { numbersOf, uniform } from "./tensors.ts";

/** Tensors by name. */
export type NamedTensors = Readonly<Record<string, Tensor>>;

/** Runs a serialized model once for each set of feeds and returns all outputs of each run. */
export type Evaluate = (
  model: Uint8Array,
  feeds: readonly NamedTensors[],
) => Promise<readonly NamedTensors[]>;

/** Writes a function into a graph: its results from its inputs by name. */
export type BuildFunction<K extends string> = (
  b: Builder,
  inputs: Readonly<Record<K, Value>>,
) => Value | readonly Value[];

/** What to check, and with what. */
export interface GradientCheck<K extends string> {
  readonly build: BuildFunction<K>;
  /** Where to check: values of all inputs, more than twice the step away from kinks in every entry. */
  readonly inputs: Readonly<Record<K, Tensor>>;
  /** Names of the inputs to differentiate; every floating one by default. */
  readonly wrt?: readonly string[] | undefined;
  readonly evaluate: Evaluate;
  /** Of the random directions. Default 1. */
  readonly seed?: number | undefined;
  /** How the differentiated graph is written out where there is a choice, as far as that is not as usual. */
  readonly policy?: Partial<Policy> | undefined;
  /** Largest relative error; by default that of the dtype in `PRECISION`. */
  readonly tolerance?: number | undefined;
}

/** How a gradient check went. */
export interface GradientReport {
  /** The derivative of <v, f> in the random direction, by central differences. */
  readonly numeric: number;
  /** The same by the rules. */
  readonly analytic: number;
  /** Their difference, over the size such a projection usually has. */
  readonly error: number;
  readonly outputs: readonly Tensor[];
  /** The random v of each output, `undefined` for those that are not floating. */
  readonly cotangents: readonly (Tensor | undefined)[];
  /** Jᵀv for each of `wrt`. */
  readonly gradients: NamedTensors;
}

/**
 * Step of the central differences and largest relative error, by dtype. The differences are of fourth order, so that
 * what remains is rounding: 1e-16 / 1e-3 in float64 and 6e-8 / 2e-2 in float32, times what the function amplifies.
 */
export const PRECISION = {
  float64: { step: 1e-3, tolerance: 1e-9 },
  float32: { step: 2e-2, tolerance: 1e-4 },
} as const;

/** f'(0) ≈ Σ weight · f(at · step) / step, up to order step⁴; f(0) itself is compared with the other graph's. */
const STENCIL = [
  { at: 0, weight: 0 },
  { at: -2, weight: 1 / 12 },
  { at: -1, weight: -2 / 3 },
  { at: 1, weight: 2 / 3 },
  { at: 2, weight: -1 / 12 },
] as const;

/**
 * Checks a gradient by one random projection: for a random direction u of the inputs and random cotangents v, the
 * central difference of <v, f(x + εu)> must equal <u, Jᵀv>. That is two models and six runs, whatever the size of
 * the tensors. f runs in its forward form and Jᵀv in its differentiable one, whose values must agree too.
 *
 * Throws `AssertionError`, with every input's part in it, where the error exceeds the tolerance.
 */
export async function checkGradient<K extends string>(
  check: GradientCheck<K>,
): Promise<GradientReport> {
  const { evaluate } = check;
  const inputs: NamedTensors = check.inputs;
  const wrt = check.wrt ?? Object.keys(inputs).filter((name) => isFloat(named(inputs, name).dtype));
  const single = Object.values(inputs).some(({ dtype }) => dtype === "float32");
  const { step, tolerance } = PRECISION[single ? "float32" : "float64"];
  const allowed = check.tolerance ?? tolerance;
  const next = uniform(check.seed ?? 1);

  const { forward, backward, outputs } = models(check, wrt);
  const cotangents = outputs.map((v) => isFloat(v.dtype) ? direction(v, next) : undefined);
  const directions = new Map(wrt.map((name) => [name, direction(named(inputs, name), next)]));
  const project = (found: NamedTensors) =>
    cotangents.reduce((sum, v, i) => v ? sum + dot(v, named(found, `y${i}`)) : sum, 0);
  const derivative = async (along: ReadonlyMap<string, Tensor>) => {
    const runs = await evaluate(
      forward,
      STENCIL.map(({ at }) => ({ ...inputs, ...moved(inputs, along, at * step) })),
    );
    return { f: runs[0] ?? {}, slope: weighted(runs.map(project)) / step };
  };

  const seeds = Object.fromEntries(cotangents.flatMap((v, i) => v ? [[`v${i}`, v]] : []));
  const [base = {}] = await evaluate(backward, [{ ...inputs, ...seeds }]);
  const { f, slope: numeric } = await derivative(directions);
  const parts = [...directions].map(([name, u]) => dot(u, named(base, `d.${name}`)));
  const analytic = parts.reduce((sum, part) => sum + part, 0);
  const usual = Math.hypot(
    ...[...directions].map(([name, u]) => size(u, named(base, `d.${name}`))),
  );
  const value = Math.hypot(...cotangents.map((v, i) => v ? size(v, named(base, `y${i}`)) : 0));
  // Where the gradient vanishes the differences still carry the rounding errors of the values.
  const scale = Math.max(usual, 1e-3 * value, Number.MIN_VALUE);
  const error = Math.abs(numeric - analytic) / scale;
  if (!(error <= allowed)) {
    const found: string[] = [];
    for (const [i, [name, u]] of [...directions].entries()) {
      const { slope } = await derivative(new Map([[name, u]]));
      found.push(`${name}: ${parts[i]} by the rules, ${slope} by differences`);
    }
    throw new AssertionError({
      message: `Gradient is off by ${error}, allowed are ${allowed} (${found.join("; ")})`,
    });
  }
  const apart = Math.abs(project(f) - project(base)) / value;
  if (apart > allowed) {
    throw new AssertionError({ message: `Forward and differentiable graph differ by ${apart}` });
  }
  return {
    numeric,
    analytic,
    error,
    outputs: outputs.map((_, i) => named(base, `y${i}`)),
    cotangents,
    gradients: Object.fromEntries(wrt.map((name) => [name, named(base, `d.${name}`)])),
  };
}

/** The forward graph (outputs y0, y1, ...) and the one that also has Jᵀv as d.<input>, from cotangents v0, v1, .... */
function models<K extends string>(check: GradientCheck<K>, wrt: readonly string[]) {
  const made = (options: BuilderOptions) => {
    const b = new Builder(options);
    const x = mapValues(check.inputs, (type: Tensor, name) => b.input(name, type));
    const y = [check.build(b, x)].flat();
    return { b, x, y, results: Object.fromEntries(y.map((v, i) => [`y${i}`, v])) };
  };
  const plain = made({});
  const { b, x, y, results } = made({ differentiable: true });
  const seeds = y.flatMap((value, i) =>
    isFloat(value.dtype) ? [{ value, cotangent: b.input(`v${i}`, value) }] : []
  );
  const gradients = gradient(b, seeds, wrt.map((name) => named(x, name)));
  const wanted = Object.fromEntries(gradients.map((g, i) => [`d.${wrt[i]}`, g]));
  return {
    forward: serialize(plain.b, plain.results),
    backward: serialize(b, { ...results, ...wanted }, {
      policy: { ...PLAIN_POLICY, ...check.policy },
    }),
    outputs: y,
  };
}

/** Entries between 1/2 and 1 of either sign: nothing moves by more than the step, and no two cancel by symmetry. */
function direction({ dtype, shape }: Pick<Tensor, "dtype" | "shape">, next: () => number): Tensor {
  const values = Float64Array.from({ length: sizeOf(shape) }, () => {
    const t = 2 * next() - 1;
    return t < 0 ? t / 2 - 0.5 : t / 2 + 0.5;
  });
  return castNumber(values, { dtype, shape });
}

function moved(
  inputs: NamedTensors,
  along: ReadonlyMap<string, Tensor>,
  by: number,
): NamedTensors {
  return Object.fromEntries(
    [...along].map(([name, u]) => {
      const d = numbersOf(u);
      const values = numbersOf(named(inputs, name)).map((x, i) => x + by * (d[i] ?? NaN));
      return [name, castNumber(values, u)];
    }),
  );
}

function weighted(values: readonly number[]): number {
  return values.reduce((sum, value, i) => sum + value * (STENCIL[i]?.weight ?? 0), 0);
}

function products(a: Tensor, b: Tensor): Float64Array {
  const factors = numbersOf(b);
  return numbersOf(a).map((v, i) => v * (factors[i] ?? NaN));
}

function dot(a: Tensor, b: Tensor): number {
  return products(a, b).reduce((sum, p) => sum + p, 0);
}

/** The size a sum of these products has if their signs are random. */
function size(a: Tensor, b: Tensor): number {
  return Math.sqrt(products(a, b).reduce((sum, p) => sum + p * p, 0));
}

function named<T>(record: Readonly<Record<string, T>>, name: string): T {
  const found = record[name];
  if (found === undefined) throw new RangeError(`"${name}" is missing`);
  return found;
}
