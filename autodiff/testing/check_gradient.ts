import { Builder } from "../builder.ts";
import { gradient } from "../gradient.ts";
import type { Value } from "../graph.ts";
import { serialize } from "../serialize.ts";
import { castNumber, type Shape, sizeOf, type Tensor } from "../tensor.ts";

/** Runs a serialized model: whoever has a runtime passes it in. */
export type Run = (
  model: Uint8Array,
  feeds: Readonly<Record<string, Tensor>>,
) => Promise<Readonly<Record<string, Tensor>>>;

/** A function to differentiate: `build` appends it to a graph with the given inputs. */
export interface GradientCase {
  /** Values at which it is differentiated, by input name, with their shapes. */
  readonly inputs: Readonly<
    Record<string, { readonly shape: Shape; readonly values: ArrayLike<number> }>
  >;
  readonly build: (b: Builder, inputs: Readonly<Record<string, Value>>) => Value;
  /** Inputs that are differentiated; all by default. */
  readonly wrt?: readonly string[];
  /** Default float64. ONNX Runtime has no float64 kernel of some operators. */
  readonly dtype?: "float64" | "float32";
  /** Step of the central difference. Default: by dtype. Functions of degree 2 and less are exact at any step. */
  readonly step?: number;
  readonly seed?: number;
}

/** What `checkGradient` found. */
export interface GradientCheck {
  /** ⟨u, (f(x + h v) - f(x - h v)) / 2h⟩. */
  readonly difference: number;
  /** ⟨∇⟨u, f⟩, v⟩. */
  readonly product: number;
  /** |difference - product| over the larger of both and 1e-3 of Σ |∇ᵢ vᵢ|. */
  readonly relativeError: number;
  readonly shape: Shape;
}

/** Step and tolerance by dtype: rounding of f divided by the step balances the step's square. */
export const GRADIENT_TOLERANCE = {
  float64: { step: 3e-6, tolerance: 1e-7 },
  float32: { step: 1e-2, tolerance: 2e-3 },
} as const;

/**
 * Compares a gradient with a central difference along one random direction v, weighted by one random cotangent u, so
 * that the cost does not depend on the size of the tensors. Every input of `wrt` moves at once.
 */
export async function checkGradient(c: GradientCase, run: Run): Promise<GradientCheck> {
  const { dtype = "float64", seed = 1 } = c;
  const h = c.step ?? GRADIENT_TOLERANCE[dtype].step;
  const random = uniform(seed);
  const names = Object.keys(c.inputs);
  const wrt = c.wrt ?? names;
  const declare = (b: Builder) =>
    Object.fromEntries(
      names.map((n) => [n, b.input(n, { dtype, shape: c.inputs[n]?.shape ?? [] })]),
    );

  const forward = new Builder();
  const y = c.build(forward, declare(forward));
  const backward = new Builder({ differentiable: true });
  const inputs = declare(backward);
  const result = c.build(backward, inputs);
  const cotangent = backward.input("cotangent", result);
  const wanted = wrt.flatMap((n) => inputs[n] ?? []);
  const gradients = gradient(backward, [{ value: result, cotangent }], wanted);
  const outputs = Object.fromEntries(gradients.map((g, i) => [`grad.${wrt[i]}`, g]));

  const directions = new Map(wrt.map((n) => [n, draw(random, sizeOf(c.inputs[n]?.shape ?? []))]));
  const u = draw(random, sizeOf(y.shape));
  const at = (sign: number): Record<string, Tensor> =>
    Object.fromEntries(names.map((n) => {
      const { shape, values } = c.inputs[n] ?? { shape: [], values: [] };
      const v = directions.get(n);
      const moved = Array.from(values, (x, i) => x + sign * h * (v?.[i] ?? 0));
      return [n, castNumber(moved, { dtype, shape })];
    }));
  const model = serialize(forward, { y });
  const [plus, minus] = [await run(model, at(1)), await run(model, at(-1))];
  const found = await run(serialize(backward, outputs), {
    ...at(0),
    cotangent: castNumber(u, { dtype, shape: y.shape }),
  });
  const [high, low] = [numbers(plus["y"]), numbers(minus["y"])];
  // Inputs are rounded to their dtype: the step that was really taken is what counts, which for float64 is h.
  let difference = 0;
  for (const [i, w] of u.entries()) {
    difference += w * ((high[i] ?? NaN) - (low[i] ?? NaN)) / (2 * h);
  }
  let [product, size] = [0, 0];
  for (const [n, v] of directions) {
    const g = numbers(found[`grad.${n}`]);
    for (const [i, w] of v.entries()) {
      product += w * (g[i] ?? NaN);
      size += Math.abs(w * (g[i] ?? NaN));
    }
  }
  const scale = Math.max(Math.abs(difference), Math.abs(product), 1e-3 * size, 1e-30);
  return {
    difference,
    product,
    relativeError: Math.abs(difference - product) / scale,
    shape: plus["y"]?.shape ?? [],
  };
}

function numbers(tensor: Tensor | undefined): number[] {
  return tensor === undefined ? [] : Array.from(tensor.data, Number);
}

/** Values in ±[0.5, 1]: none is near zero, so that no direction is lost. */
function draw(random: () => number, n: number): number[] {
  return Array.from({ length: n }, () => (random() < 0.5 ? -1 : 1) * (0.5 + random() / 2));
}

/** Uniform numbers in [0, 1) from a seed (mulberry32): enough to pick test points, nothing more. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
