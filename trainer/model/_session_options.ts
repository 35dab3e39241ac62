import type { ModelGraph } from "../../models/diffusers/mod.ts";
import type { SessionOptions } from "../../runtime/mod.ts";

/** How a graph is loaded: `options`, and what its weights ask for. */
export function sessionOptions(
  { fold }: Pick<ModelGraph, "fold">,
  options: SessionOptions,
): SessionOptions {
  // Above "extended", convolutions get weights in a layout of their own: a copy.
  return fold ? options : { graphOptimizationLevel: "extended", ...options, foldConstants: false };
}
