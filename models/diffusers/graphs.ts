import { Builder, type Shape, type Value, type ValueType } from "../../autodiff/mod.ts";
import { CPU_TARGET, scaledGradient } from "../../compile/mod.ts";
import { clipText, type ClipTextConfig, clipTextProjection, clipTextScope } from "../clip/mod.ts";
import { type LoraConfig, LoraInputs } from "../lora/mod.ts";
import { WeightScope } from "../weight_scope.ts";
import { type GraphOptions, type ModelGraph, modelGraph } from "./_model_graph.ts";
import type { Part, Pipeline } from "./pipeline.ts";
import { unet, unetAdaptableLayers, type UNetInputs } from "./unet.ts";
import { TIME_IDS, type UNetConfig } from "./unet_config.ts";
import { vaeDecode } from "./vae.ts";
import { givenChannels, type VaeConfig, vaeFactor } from "./vae_config.ts";

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
  { batch, tokens, ...options }: GraphOptions & {
    readonly batch: number;
    readonly tokens: number;
  },
): readonly ModelGraph[] {
  return textEncoders.map((part: Part<ClipTextConfig>, i) => {
    const { config } = part;
    const b = new Builder();
    const s = new WeightScope(b, part.weights);
    const ids = b.input("input_ids", { dtype: "int64", shape: [batch, tokens] });
    const { last, hidden, pooled } = clipText(clipTextScope(s), ids, config);
    if (kind === "sd") {
      return modelGraph(part, b, { ...options, name: "text encoder", outputs: { states: last } });
    }
    const states = hidden.at(-2) ?? last;
    const outputs = i === 0
      ? { states }
      : { states, pooled: clipTextProjection(s, pooled, config) };
    return modelGraph(part, b, { ...options, name: `text encoder ${i + 1}`, outputs });
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
  return modelGraph(part, b, { ...writing(options), name: "U-Net", outputs: { prediction } });
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
  const outputs = { prediction, ...vjp(b, prediction, { wrt, ...options }) };
  return modelGraph(part, b, { ...writing(options), name: "U-Net gradient", outputs });
}

/** A VAE decoder forward: input `latents` [batch, channels, height, width], output `image` as `vaeDecode`'s. */
export function decodeGraph(
  part: Part<VaeConfig>,
  size: LatentsSize & GraphOptions,
): ModelGraph {
  const { b, image } = buildDecoder(part, { ...size, differentiable: false });
  return modelGraph(part, b, {
    ...writing(size),
    name: "VAE decoder",
    outputs: { image },
    fold: isSmall(part),
  });
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
  const outputs = { image, ...vjp(b, image, { wrt: new Map([["latents", latents]]), ...size }) };
  return modelGraph(part, b, {
    ...writing(size),
    name: "VAE decoder gradient",
    outputs,
    fold: isSmall(part),
  });
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

/** What a graph is written for, of all options. */
function writing({ target, policy }: GraphOptions): GraphOptions {
  return { target, policy };
}

function buildUNet(
  { config, weights }: Part<UNetConfig>,
  { lora, ...options }:
    & UNetSize
    & GraphOptions
    & { lora: LoraConfig | undefined; differentiable: boolean },
) {
  const b = new Builder({ differentiable: options.differentiable });
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
  const adapter = lora && new LoraInputs(b, unetAdaptableLayers(config), {
    ...lora,
    precision: options.target?.precision,
  });
  const prediction = unet(new WeightScope(b, weights), inputs, { config, lora: adapter });
  return { b, inputs, adapter, prediction };
}

function buildDecoder(
  { config, weights }: Part<VaeConfig>,
  options: LatentsSize & GraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder({ differentiable: options.differentiable });
  const latents = b.input("latents", decoderInputTypes(config, options).latents);
  return { b, latents, image: vaeDecode(new WeightScope(b, weights), latents, config) };
}

/** Appends the gradient of `y` against an input "cotangent": `grad.<name>` for each of `wrt`. */
function vjp(
  b: Builder,
  y: Value,
  { wrt, target = CPU_TARGET }: GraphOptions & { readonly wrt: ReadonlyMap<string, Value> },
): Record<string, Value> {
  const cotangent = b.input("cotangent", y);
  const gradients = scaledGradient(b, [{ value: y, cotangent }], {
    wrt: [...wrt.values()],
    precision: target.precision,
  });
  return Object.fromEntries([...wrt.keys()].flatMap((name, i) => {
    const g = gradients[i];
    return g === undefined ? [] : [[`grad.${name}`, g]];
  }));
}
