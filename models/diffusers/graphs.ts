import {
  Builder,
  type Precision,
  type Shape,
  type Value,
  type ValueType,
} from "../../autodiff/mod.ts";
import { scaledGradient } from "../../compile/mod.ts";
import { clipText, type ClipTextConfig, clipTextProjection, clipTextScope } from "../clip/mod.ts";
import { type LoraConfig, LoraInputs } from "../lora/mod.ts";
import { WeightScope } from "../weight_scope.ts";
import { type ModelGraph, modelGraph } from "./_model_graph.ts";
import type { Part, Pipeline } from "./read_pipeline.ts";
import { unet, unetAdaptableLayers, type UNetInputs } from "./unet.ts";
import { TIME_IDS, type UNetConfig } from "./unet_config.ts";
import { vaeDecode } from "./vae.ts";
import { givenChannels, type VaeConfig, vaeFactor } from "./vae_config.ts";

/** How a graph is written. */
export interface GraphOptions {
  /** Bytes of attention probabilities above which a gradient recomputes them: see autodiff's `BuilderOptions`. */
  readonly attentionMemory?: number;
  /** Logits in one block of such a gradient: see autodiff's `BuilderOptions`. */
  readonly attentionBlock?: number;
  /** Bytes of a tensor whose group normalization a gradient keeps: see autodiff's `BuilderOptions`. */
  readonly normalizationMemory?: number;
  /** Positions from which convolutions are computed by Winograd's algorithm: see autodiff's `BuilderOptions`. */
  readonly winograd?: number;
  /** Whether sizes may be kept from the runtime where that takes less memory: see autodiff's `BuilderOptions`. */
  readonly mayHideSizes?: boolean;
  /** What it is computed in. Inputs and outputs are float32 always. Default "float32". */
  readonly precision?: Precision;
}

/** The size of a batch of latents. */
export interface LatentsSize {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
}

/** The size of a U-Net's inputs. */
export interface UNetSize extends LatentsSize {
  /** Predictions for each row of the batch, 2 for both branches of guidance. Default 1. */
  readonly contexts?: number;
  /** Text tokens attended to. */
  readonly tokens: number;
}

/**
 * A pipeline's text encoders as graphs, one for each: input `input_ids` int64 [batch, tokens]; output `states`
 * [batch, tokens, width]. Joined along the last axis, the states are what the U-Net reads: the last layer's,
 * normalized, in Stable Diffusion 1 and 2, and the last but one's, not normalized, in XL. XL's second graph has
 * another output, `pooled` [batch, projectionDim], the U-Net's `text_embeds`.
 */
export function textGraphs(
  { kind, textEncoders }: Pick<Pipeline, "kind" | "textEncoders">,
  { batch, tokens, precision = "float32" }: Pick<GraphOptions, "precision"> & {
    readonly batch: number;
    readonly tokens: number;
  },
): readonly ModelGraph[] {
  return textEncoders.map((part: Part<ClipTextConfig>, i) => {
    const { config } = part;
    const b = new Builder({ precision });
    const s = new WeightScope(b, part.weights);
    const ids = b.input("input_ids", { dtype: "int64", shape: [batch, tokens] });
    const { last, hidden, pooled } = clipText(clipTextScope(s), ids, config);
    if (kind === "sd") {
      return modelGraph(part, b, { name: "text encoder", outputs: { states: last } });
    }
    const states = hidden.at(-2) ?? last;
    const outputs = i === 0
      ? { states }
      : { states, pooled: clipTextProjection(s, pooled, config) };
    return modelGraph(part, b, { name: `text encoder ${i + 1}`, outputs });
  });
}

/**
 * A U-Net forward: the inputs of `UNetInputs` under those names, and with `lora` its tensors under PEFT's names.
 * Output `prediction` [contexts · batch, channels, height, width]: noise or velocity, as the model was trained. Guidance
 * is the caller's: both branches go in one batch, of which `sample` and `timestep` hold one.
 */
export function unetGraph(
  part: Part<UNetConfig>,
  { lora, ...options }: UNetSize & GraphOptions & { readonly lora?: LoraConfig },
): ModelGraph {
  const { b, prediction } = buildUNet(part, { ...options, lora, differentiable: false });
  return modelGraph(part, b, { name: "U-Net", outputs: { prediction } });
}

/**
 * A U-Net's vector-Jacobian product: `unetGraph`'s inputs and `cotangent`, d loss / d prediction. Outputs
 * `prediction`, `grad.<name>` for every LoRA tensor, and with `sampleGradient` also `grad.sample`. Gradients of LoRA
 * tensors are summed over the batch, so that several steps go through in one.
 */
export function unetVjpGraph(
  part: Part<UNetConfig>,
  { lora, sampleGradient = false, ...options }: UNetSize & GraphOptions & {
    readonly lora: LoraConfig;
    readonly sampleGradient?: boolean;
  },
): ModelGraph {
  const { b, inputs, adapter, prediction } = buildUNet(part, {
    ...options,
    lora,
    differentiable: true,
  });
  const wrt = new Map(adapter?.declared);
  if (sampleGradient) wrt.set("sample", inputs.sample);
  const outputs = { prediction, ...vjp(b, prediction, wrt) };
  return modelGraph(part, b, { name: "U-Net gradient", outputs });
}

/** A VAE decoder forward: input `latents` [batch, channels, height, width], output `image` as `vaeDecode`'s. */
export function decodeGraph(
  part: Part<VaeConfig>,
  size: LatentsSize & GraphOptions,
): ModelGraph {
  const { b, image } = buildDecoder(part, { ...size, differentiable: false });
  return modelGraph(part, b, { name: "VAE decoder", outputs: { image }, fold: isSmall(part) });
}

/**
 * A VAE decoder's vector-Jacobian product: `latents` and `cotangent`, d loss / d image, [batch, 3, F·height, F·width].
 * Outputs `image` and `grad.latents`.
 */
export function decodeVjpGraph(
  part: Part<VaeConfig>,
  size: LatentsSize & GraphOptions,
): ModelGraph {
  const { b, latents, image } = buildDecoder(part, { ...size, differentiable: true });
  const outputs = { image, ...vjp(b, image, new Map([["latents", latents]])) };
  return modelGraph(part, b, { name: "VAE decoder gradient", outputs, fold: isSmall(part) });
}

/**
 * Whether what depends on a decoder's weights alone is computed when it is loaded. Kernels turned round and transformed
 * are several times their size, and computing them is nothing beside images of the size that large decoders make.
 */
function isSmall({ weights }: Part<VaeConfig>): boolean {
  return weights.byteLength <= 64 * 2 ** 20;
}

/** Height and width in pixels of the image that latents decode to. */
export function imageSize(
  config: VaeConfig,
  { height, width }: { readonly height: number; readonly width: number },
): { readonly height: number; readonly width: number } {
  const factor = vaeFactor(config);
  return { height: factor * height, width: factor * width };
}

/** The types of a U-Net's inputs, in the order of its graphs. */
export function unetInputTypes(
  { inChannels, contextWidth, textTime }: UNetConfig,
  { batch, contexts = 1, height, width, tokens }: UNetSize,
): { readonly [K in keyof UNetInputs]: ValueType } {
  const float = (...shape: Shape): ValueType => ({ dtype: "float32", shape });
  return {
    sample: float(batch, inChannels, height, width),
    timestep: float(batch),
    encoder_hidden_states: float(contexts * batch, tokens, contextWidth),
    ...(textTime && {
      text_embeds: float(contexts * batch, textTime.textWidth),
      time_ids: float(contexts * batch, TIME_IDS),
    }),
  };
}

/** The types of a VAE decoder's inputs. */
export function decoderInputTypes(
  config: VaeConfig,
  { batch, height, width }: LatentsSize,
): { readonly latents: ValueType } {
  return { latents: { dtype: "float32", shape: [batch, givenChannels(config), height, width] } };
}

function buildUNet(
  { config, weights }: Part<UNetConfig>,
  { lora, ...options }:
    & UNetSize
    & GraphOptions
    & { lora: LoraConfig | undefined; differentiable: boolean },
) {
  const b = new Builder(options);
  const { sample, timestep, encoder_hidden_states, text_embeds, time_ids } = unetInputTypes(
    config,
    options,
  );
  const inputs: UNetInputs = {
    sample: b.input("sample", sample),
    timestep: b.input("timestep", timestep),
    encoder_hidden_states: b.input("encoder_hidden_states", encoder_hidden_states),
    ...(text_embeds && time_ids && {
      text_embeds: b.input("text_embeds", text_embeds),
      time_ids: b.input("time_ids", time_ids),
    }),
  };
  const adapter = lora && new LoraInputs(b, unetAdaptableLayers(config), lora);
  const prediction = unet(new WeightScope(b, weights), inputs, { config, lora: adapter });
  return { b, inputs, adapter, prediction };
}

function buildDecoder(
  { config, weights }: Part<VaeConfig>,
  options: LatentsSize & GraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder(options);
  const latents = b.input("latents", decoderInputTypes(config, options).latents);
  return { b, latents, image: vaeDecode(new WeightScope(b, weights), latents, config) };
}

/** Appends the gradient of `y` against an input "cotangent": `grad.<name>` for each of `wrt`. */
function vjp(b: Builder, y: Value, wrt: ReadonlyMap<string, Value>): Record<string, Value> {
  const cotangent = b.input("cotangent", y);
  const gradients = scaledGradient(b, [{ value: y, cotangent }], [...wrt.values()]);
  return Object.fromEntries([...wrt.keys()].flatMap((name, i) => {
    const g = gradients[i];
    return g === undefined ? [] : [[`grad.${name}`, g]];
  }));
}
