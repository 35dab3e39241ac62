import { Builder, type Value } from "../../autodiff/mod.ts";
import { CPU_TARGET, scaledGradient } from "../../compile/mod.ts";
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
  const { target = CPU_TARGET, policy } = options;
  const cotangent = b.input("cotangent", prediction);
  const gradients = scaledGradient(b, [{ value: prediction, cotangent }], {
    wrt: [...wrt.values()],
    precision: target.precision,
  });
  const found = [...wrt.keys()].flatMap((name, i): [string, Value][] => {
    const g = gradients[i];
    return g === undefined ? [] : [[`grad.${name}`, g]];
  });
  const outputs = { prediction, ...Object.fromEntries(found) };
  return modelGraph(transformer.part, b, {
    name: "transformer gradient",
    outputs,
    target,
    policy,
  });
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
    ...options,
    inputs: transformer.inputTypes(options),
    wrt: sampleGradient ? ["sample"] : [],
    build: (differentiable) => {
      const b = new Builder({ differentiable });
      const s = new WeightScope(b, part.weights);
      const precision = options.target?.precision;
      return { b, s, lora: lora && new LoraInputs(b, layers, { ...lora, precision }) };
    },
  });
}

function build(
  transformer: FlowTransformer,
  { lora, ...options }: TransformerGraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder({ differentiable: options.differentiable });
  const types = transformer.inputTypes(options);
  const inputs = Object.fromEntries(
    Object.entries(types).map(([name, type]) => [name, b.input(name, type)]),
  );
  const { sample } = inputs;
  if (sample === undefined) throw new RangeError("A transformer reads latents");
  const adapter = lora && new LoraInputs(b, transformer.layers, {
    ...lora,
    precision: options.target?.precision,
  });
  const s = new WeightScope(b, transformer.part.weights);
  const prediction = compose(transformer.segments(options), {
    context: { b, s, lora: adapter },
    inputs,
  });
  return { b, sample, adapter, prediction };
}
