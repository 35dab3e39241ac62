import type { Graph, Value, ValueType } from "../autodiff/mod.ts";
import type { Compiled, CompileOptions } from "./compiled.ts";
import { costs } from "./cost.ts";
import type { Lowered } from "./lower.ts";
import { policyOf } from "./policy.ts";
import { runnable } from "./runnable.ts";
import { serializeLowered } from "./serialize.ts";

/**
 * Compiles the part of `graph` that `outputs` need for a target: operators are written out in those that the runtime has,
 * attention and normalization whole or in blocks as memory allows, convolutions by Winograd's algorithm where that is
 * quicker, products in float16 where that is asked for, and sizes are hidden where that takes less memory. It is lowered
 * once. Throws `GraphError` where the graph cannot be written.
 *
 * @example
 * ```ts
 * import { Builder, gradient } from "../autodiff/mod.ts";
 * import { compile, CPU_TARGET } from "./mod.ts";
 *
 * const b = new Builder({ differentiable: true });
 * const x = b.input("x", { dtype: "float32", shape: [2, 3] });
 * const loss = b.sum(b.mul(x, x), { keepDims: false });
 * const [slope] = gradient(b, [{ value: loss, cotangent: b.scalar(1, "float32") }], [x]);
 * if (slope === undefined) throw new Error("No gradient");
 * const { bytes, cost, sessionOptions } = compile(b, { loss, slope }, CPU_TARGET);
 * console.assert(bytes.length > 0 && cost.outputBytes === 4 * (1 + 6));
 * console.assert(sessionOptions.provider === "cpu");
 * ```
 */
export function compile(
  graph: Graph,
  outputs: Readonly<Record<string, Value>>,
  { fold = true, blocked = true, optimizer = "compiler", inPlace, policy: choices, ...target }:
    CompileOptions,
): Compiled {
  const policy = {
    ...policyOf(target, { isOptimized: optimizer === "runtime", fold }),
    ...choices,
  };
  const names = Object.keys(outputs);
  let lowered: Lowered | undefined;
  const low = () => lowered ??= runnable(graph, Object.values(outputs), policy);
  const choose = () => {
    // What is folded needs its sizes. Where they are hidden, nothing is written over what it is made from.
    const mayHide = policy.mayHideSizes && !fold;
    const { told, hidden } = costs(low(), { fold, mayHide });
    const hideSizes = mayHide && hidden.activationBytes < told.activationBytes;
    return { hideSizes, cost: hideSizes ? hidden : told };
  };
  let chosen: ReturnType<typeof choose> | undefined;
  /** How it is written, so that it takes the least. */
  const written = () => chosen ??= choose();
  let bytes: Uint8Array | undefined;
  const write = () => {
    const { hideSizes } = written();
    const made = serializeLowered(low(), { names, hideSizes, ...(inPlace && { inPlace }) });
    lowered = undefined;
    return made;
  };
  const typeOf = ({ dtype, shape }: Value): ValueType => ({ dtype, shape });
  return {
    get bytes() {
      return bytes ??= write();
    },
    get cost() {
      return written().cost;
    },
    inputs: Object.fromEntries(graph.inputs.map((v) => [v.name, typeOf(v)])),
    outputs: Object.fromEntries(Object.entries(outputs).map(([n, v]) => [n, typeOf(v)])),
    sessionOptions: {
      provider: target.provider,
      ...(target.threads !== undefined && { intraOpNumThreads: target.threads }),
      // Above "extended", convolutions get weights in a layout of their own: a copy.
      ...(!(fold && blocked) && { graphOptimizationLevel: "extended" }),
      ...(!fold && { foldConstants: false }),
    },
  };
}
