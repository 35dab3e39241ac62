import type { Builder, Seed, Value } from "../../autodiff/mod.ts";
import { CPU_TARGET, scaledGradient } from "../../compile/mod.ts";
import type { GraphOptions } from "./_model_graph.ts";

/**
 * Appends the gradients of `seeds` against each value of `wrt`, which go by its keys, as outputs of a graph. What the
 * seeds do not depend on has none.
 */
export function gradientOutputs(
  b: Builder,
  seeds: readonly Seed[],
  { wrt, target = CPU_TARGET }: Pick<GraphOptions, "target"> & {
    readonly wrt: ReadonlyMap<string, Value>;
  },
): { readonly outputs: Record<string, Value>; readonly gradients: ReadonlyMap<string, string> } {
  const found = scaledGradient(b, seeds, {
    wrt: [...wrt.values()],
    precision: target.precision,
  });
  const outputs: Record<string, Value> = {};
  const gradients = new Map<string, string>();
  for (const [i, name] of [...wrt.keys()].entries()) {
    const gradient = found[i];
    if (gradient === undefined) continue;
    const output = `grad.${name}`;
    outputs[output] = gradient;
    gradients.set(name, output);
  }
  return { outputs, gradients };
}
