import { Builder, type Value } from "../../autodiff/mod.ts";
import { scaledGradient } from "../../compile/mod.ts";
import {
  type GraphOptions,
  inPieces,
  type ModelGraph,
  modelGraph,
  type PieceOptions,
  type Pieces,
} from "../diffusers/mod.ts";
import { type LoraConfig, LoraInputs } from "../lora/mod.ts";
import { compose } from "../segments.ts";
import { WeightScope } from "../weight_scope.ts";
import type { FlowTransformer, TransformerSize } from "./transformer.ts";

/** How a transformer's graph is written, and for what. */
export interface TransformerGraphOptions extends TransformerSize, GraphOptions {
  readonly lora?: LoraConfig | undefined;
}

/**
 * A transformer forward: the inputs of its `inputTypes`, and with `lora` its tensors under PEFT's names. Output
 * `prediction`, the velocity dx / d sigma, the shape of `sample`.
 */
export function transformerGraph(
  transformer: FlowTransformer,
  options: TransformerGraphOptions,
): ModelGraph {
  const { b, prediction } = build(transformer, { ...options, differentiable: false });
  return modelGraph(transformer.part, b, { name: "transformer", outputs: { prediction } });
}

/**
 * A transformer's vector-Jacobian product: `transformerGraph`'s inputs and `cotangent`, d loss / d prediction. Outputs
 * `prediction`, `grad.<name>` for every LoRA tensor that the prediction depends on, summed over the batch, and with
 * `sampleGradient` also `grad.sample`.
 */
export function transformerVjpGraph(
  transformer: FlowTransformer,
  { sampleGradient = false, ...options }: TransformerGraphOptions & {
    readonly lora: LoraConfig;
    readonly sampleGradient?: boolean;
  },
): ModelGraph {
  const { b, sample, adapter, prediction } = build(transformer, {
    ...options,
    differentiable: true,
  });
  const wrt = new Map(adapter?.declared);
  if (sampleGradient) wrt.set("sample", sample);
  const cotangent = b.input("cotangent", prediction);
  const gradients = scaledGradient(b, [{ value: prediction, cotangent }], [...wrt.values()]);
  const found = [...wrt.keys()].flatMap((name, i): [string, Value][] => {
    const g = gradients[i];
    return g === undefined ? [] : [[`grad.${name}`, g]];
  });
  const outputs = { prediction, ...Object.fromEntries(found) };
  return modelGraph(transformer.part, b, { name: "transformer gradient", outputs });
}

/** A transformer in pieces, with the inputs of `transformerGraph` and the gradients of `transformerVjpGraph`. */
export function transformerPieces(
  transformer: FlowTransformer,
  { lora, sampleGradient = false, lengths, forwardOnly, ...options }:
    & TransformerGraphOptions
    & PieceOptions
    & { readonly sampleGradient?: boolean },
): Pieces {
  const { part, layers } = transformer;
  return inPieces(part, {
    name: "transformer",
    segments: transformer.segments(options),
    lengths,
    forwardOnly,
    inputs: transformer.inputTypes(options),
    wrt: sampleGradient ? ["sample"] : [],
    build: (differentiable) => {
      const b = new Builder({ ...options, differentiable });
      const s = new WeightScope(b, part.weights);
      return { b, s, lora: lora && new LoraInputs(b, layers, lora) };
    },
  });
}

function build(
  transformer: FlowTransformer,
  { lora, ...options }: TransformerGraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder(options);
  const types = transformer.inputTypes(options);
  const inputs = Object.fromEntries(
    Object.entries(types).map(([name, type]) => [name, b.input(name, type)]),
  );
  const { sample } = inputs;
  if (sample === undefined) throw new RangeError("A transformer reads latents");
  const adapter = lora && new LoraInputs(b, transformer.layers, lora);
  const s = new WeightScope(b, transformer.part.weights);
  const prediction = compose(transformer.segments(options), {
    context: { b, s, lora: adapter },
    inputs,
  });
  return { b, sample, adapter, prediction };
}
