import { Builder } from "../../autodiff/mod.ts";
import {
  gradientOutputs,
  type GraphOptions,
  inPieces,
  type ModelGraph,
  modelGraph,
  type PieceOptions,
  type Pieces,
  seed,
} from "../diffusers/mod.ts";
import { ChangeInputs, type ModuleChange } from "../lora/mod.ts";
import { compose } from "../segments.ts";
import { WeightScope } from "../weight_scope.ts";
import type { FlowTransformer, TransformerSize } from "./transformer.ts";

/** How a transformer's graph is written, and for what. */
export interface TransformerGraphOptions extends TransformerSize, GraphOptions {
  readonly changes?: readonly ModuleChange[] | undefined;
}

/**
 * A transformer forward: the inputs of its `inputTypes`, and with `changes` their tensors. Output
 * `prediction`, the velocity dx / d sigma, the shape of `sample`.
 */
export function transformerGraph(
  transformer: FlowTransformer,
  options: TransformerGraphOptions,
): ModelGraph {
  const { b, prediction } = build(transformer, { ...options, differentiable: false });
  const { target, policy } = options;
  return modelGraph(transformer.part, b, {
    name: "transformer",
    outputs: { prediction },
    target,
    policy,
  });
}

/**
 * A transformer's vector-Jacobian product: `transformerGraph`'s inputs and `cotangent`, d loss / d prediction. Outputs
 * `prediction` and, as `gradients` names them, those of every tensor of the changes that the prediction depends on, summed
 * over the batch, and with `sampleGradient` of `sample`.
 */
export function transformerVjpGraph(
  transformer: FlowTransformer,
  { sampleGradient = false, ...options }: TransformerGraphOptions & {
    readonly changes: readonly ModuleChange[];
    readonly sampleGradient?: boolean;
  },
): ModelGraph {
  const { b, sample, changed, prediction } = build(transformer, {
    ...options,
    differentiable: true,
  });
  const wrt = new Map(changed.declared);
  if (sampleGradient) wrt.set("sample", sample);
  const { target, policy } = options;
  const product = gradientOutputs(b, [seed(b, prediction)], { wrt, target });
  return modelGraph(transformer.part, b, {
    name: "transformer gradient",
    outputs: { prediction, ...product.outputs },
    gradients: product.gradients,
    target,
    policy,
  });
}

/** A transformer in pieces, with the inputs of `transformerGraph` and the gradients of `transformerVjpGraph`. */
export function transformerPieces(
  transformer: FlowTransformer,
  { changes = [], sampleGradient = false, lengths, forwardOnly, ...options }:
    & TransformerGraphOptions
    & PieceOptions
    & { readonly sampleGradient?: boolean },
): Pieces {
  const { part } = transformer;
  return inPieces(part, {
    name: "transformer",
    segments: transformer.segments(options),
    lengths,
    forwardOnly,
    ...options,
    inputs: transformer.inputTypes(options),
    wrt: sampleGradient ? ["sample"] : [],
    build: (differentiable) => {
      const b = new Builder({ differentiable });
      const changed = new ChangeInputs(b, changes, options.target?.precision);
      return { b, s: new WeightScope(b, part.weights, { changes: changed }), changed };
    },
  });
}

function build(
  transformer: FlowTransformer,
  { changes = [], ...options }: TransformerGraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder({ differentiable: options.differentiable });
  const types = transformer.inputTypes(options);
  const inputs = Object.fromEntries(
    Object.entries(types).map(([name, type]) => [name, b.input(name, type)]),
  );
  const { sample } = inputs;
  if (sample === undefined) throw new RangeError("A transformer reads latents");
  const changed = new ChangeInputs(b, changes, options.target?.precision);
  const s = new WeightScope(b, transformer.part.weights, { changes: changed });
  const prediction = compose(transformer.segments(options), {
    context: { b, s },
    inputs,
  });
  return { b, sample, changed, prediction };
}
