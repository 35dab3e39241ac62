import { CPU_TARGET, type Target } from "../../compile/mod.ts";
import {
  decodeGraph,
  decoderPieces,
  decodeVjpGraph,
  type LatentsSize,
  type ModelGraph,
  type Part,
  type Pieces,
  type UNetConfig,
  unetGraph,
  unetPieces,
  type UNetSize,
  unetVjpGraph,
  type VaeConfig,
} from "../../models/diffusers/mod.ts";
import {
  encoderGraph,
  encoderPieces,
  type FlowTransformer,
  type TextEncoder,
  type TextGraphOptions,
  transformerGraph,
  transformerPieces,
  type TransformerSize,
  transformerVjpGraph,
} from "../../models/flow/mod.ts";
import type { ModuleChange } from "../../models/lora/mod.ts";
import { ENGINE_BYTES, footprint, pieceLengths } from "./memory.ts";

/** A network as it will run: in one graph where that fits, in pieces where it does not. */
export type RunnableNetwork =
  | { readonly kind: "whole"; readonly name: string; readonly graph: ModelGraph }
  | { readonly kind: "pieces"; readonly name: string; readonly pieces: Pieces };

/** What a denoiser is to compute: its prediction, or a product with its Jacobian, against its input too if asked for. */
export type UNetTask = "prediction" | "product" | "product with input";

/** What a network is compiled for. What is not said is as in `CPU_TARGET`. */
export type NetworkTarget = Partial<Target>;

/** What a denoiser is compiled for: its task, the size of its inputs, and the LoRA in it. */
type DenoiserTarget<Size> = NetworkTarget & {
  readonly task: UNetTask;
  readonly size: Size;
  readonly changes: readonly ModuleChange[];
};

function denoiserOptions<Size>({ task, size, changes, ...target }: DenoiserTarget<Size>) {
  return {
    ...size,
    target: { ...CPU_TARGET, ...target },
    changes,
    forwardOnly: task === "prediction",
    sampleGradient: task === "product with input",
  };
}

/** A U-Net for inputs of one size. */
export function unetNetwork(
  part: Part<UNetConfig>,
  denoiser: DenoiserTarget<UNetSize>,
): RunnableNetwork {
  const options = denoiserOptions(denoiser);
  return networkOf({
    name: `U-Net ${denoiser.task} ${sizeText(denoiser.size)}`,
    memory: options.target.memory,
    whole: () => options.forwardOnly ? unetGraph(part, options) : unetVjpGraph(part, options),
    pieces: (lengths) => unetPieces(part, { ...options, lengths }),
  });
}

/** A flow's transformer for inputs of one size; see `unetNetwork`. */
export function transformerNetwork(
  transformer: FlowTransformer,
  denoiser: DenoiserTarget<TransformerSize>,
): RunnableNetwork {
  const options = denoiserOptions(denoiser);
  const { batch, height, width, tokens, equal = 1 } = denoiser.size;
  const text = equal === 1 ? `${tokens} tokens` : `${tokens} tokens, the last for ${equal}`;
  return networkOf({
    name: `transformer ${denoiser.task} ${batch}x${height}x${width}, ${text}`,
    memory: options.target.memory,
    whole: () =>
      options.forwardOnly
        ? transformerGraph(transformer, options)
        : transformerVjpGraph(transformer, options),
    pieces: (lengths) => transformerPieces(transformer, { ...options, lengths }),
  });
}

/** A text encoder of one result for one prompt of so many tokens; see `unetNetwork`. */
export function encoderNetwork(
  encoder: Exclude<TextEncoder, { kind: "clip" }>,
  { tokens, layers, ...given }: NetworkTarget & Pick<TextGraphOptions, "tokens" | "layers">,
): RunnableNetwork {
  const target = { ...CPU_TARGET, ...given };
  return networkOf({
    name: `${encoder.kind} text encoder, ${tokens} tokens`,
    memory: target.memory,
    whole: () => encoderGraph(encoder, { tokens, layers, target }),
    pieces: (lengths) => encoderPieces(encoder, { tokens, layers, target, lengths }),
  });
}

/** A VAE decoder for latents of one size, computed in float32 always; see `unetNetwork`. */
export function decoderNetwork(
  part: Part<VaeConfig>,
  { task, size, ...target }: NetworkTarget & {
    readonly task: "image" | "product";
    readonly size: LatentsSize;
  },
): RunnableNetwork {
  const forwardOnly = task === "image";
  // SDXL's overflows in float16.
  const options = {
    ...size,
    target: { ...CPU_TARGET, ...target, precision: "float32" as const },
  };
  return networkOf({
    name: `VAE decoder ${task} ${sizeText(size)}`,
    memory: options.target.memory,
    whole: () => forwardOnly ? decodeGraph(part, options) : decodeVjpGraph(part, options),
    pieces: (lengths) => decoderPieces(part, { ...options, forwardOnly, lengths }),
  });
}

function networkOf({ name, memory, whole, pieces }: {
  readonly name: string;
  readonly memory: number;
  readonly whole: () => ModelGraph;
  readonly pieces: (lengths?: readonly number[]) => Pieces;
}): RunnableNetwork {
  const graph = whole();
  return ENGINE_BYTES + footprint(graph.cost) <= memory
    ? { kind: "whole", name, graph }
    : { kind: "pieces", name, pieces: pieces(pieceLengths(pieces, memory)) };
}

function sizeText({ batch, height, width, ...rest }: LatentsSize & Partial<UNetSize>): string {
  const { contexts = 1, tokens = 0 } = rest;
  return `${contexts}x${batch}x${height}x${width}, ${tokens} tokens`;
}
