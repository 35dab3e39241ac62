import { Builder, type Seed, type Shape, type Value, type ValueType } from "../../autodiff/mod.ts";
import { clipText, type ClipTextConfig, clipTextProjection, clipTextScope } from "../clip/mod.ts";
import { ChangeInputs, type ModuleChange } from "../lora/mod.ts";
import { WeightScope } from "../weight_scope.ts";
import { gradientOutputs } from "./_gradient_outputs.ts";
import { type GraphOptions, type ModelGraph, modelGraph } from "./_model_graph.ts";
import type { Part, Pipeline } from "./pipeline.ts";
import { unet, type UNetInputs } from "./unet.ts";
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
  { batch, tokens, changes = [], ...options }: GraphOptions & {
    readonly batch: number;
    readonly tokens: number;
    /** Of each encoder's weights; their tensors are inputs. */
    readonly changes?: readonly (readonly ModuleChange[])[];
  },
): readonly ModelGraph[] {
  return textEncoders.map((part: Part<ClipTextConfig>, i) => {
    const { config } = part;
    const b = new Builder();
    const inputs = new ChangeInputs(b, changes[i] ?? [], options.target?.precision);
    const s = new WeightScope(b, part.weights, { changes: inputs });
    const ids = b.input("input_ids", { dtype: "int64", shape: [batch, tokens] });
    const { last, hidden, pooled } = clipText(clipTextScope(s), ids, config);
    if (kind === "sd") {
      checkUsed(inputs, "text encoder");
      return modelGraph(part, b, { ...options, name: "text encoder", outputs: { states: last } });
    }
    const states = hidden.at(-2) ?? last;
    const outputs = i === 0
      ? { states }
      : { states, pooled: clipTextProjection(s, pooled, config) };
    checkUsed(inputs, `text encoder ${i + 1}`);
    return modelGraph(part, b, { ...options, name: `text encoder ${i + 1}`, outputs });
  });
}

/** Every change must reach a layer: one that does not would be left out without a word. */
function checkUsed({ unused: [name] }: ChangeInputs, network: string): void {
  if (name !== undefined) throw new RangeError(`No layer of the ${network} reads "${name}"`);
}

/**
 * A U-Net forward: the inputs of `UNetInputs` under those names, and with `changes` their tensors (see `changeShapes`).
 * Output `prediction` [contexts · batch, channels, height, width]: noise or velocity, as the model was trained. Guidance
 * is the caller's: both branches go in one batch, of which `sample` and `timestep` hold one.
 */
export function unetGraph(
  part: Part<UNetConfig>,
  options: UNetSize & GraphOptions & { readonly changes?: readonly ModuleChange[] },
): ModelGraph {
  const { b, prediction } = buildUNet(part, { ...options, differentiable: false });
  return modelGraph(part, b, { ...writing(options), name: "U-Net", outputs: { prediction } });
}

/**
 * A U-Net's vector-Jacobian product: `unetGraph`'s inputs and `cotangent`, d loss / d prediction. Outputs
 * `prediction` and, as `gradients` names them, those of every tensor of the changes and with `sampleGradient` of `sample`.
 * Gradients of these tensors are summed over the batch, so that several steps go through in one.
 */
export function unetVjpGraph(
  part: Part<UNetConfig>,
  { sampleGradient = false, ...options }: UNetSize & GraphOptions & {
    readonly changes: readonly ModuleChange[];
    readonly sampleGradient?: boolean;
  },
): ModelGraph {
  const { b, inputs, changed, prediction } = buildUNet(part, { ...options, differentiable: true });
  const wrt = new Map(changed.declared);
  if (sampleGradient) wrt.set("sample", inputs.sample);
  const product = gradientOutputs(b, [seed(b, prediction)], { wrt, ...options });
  return modelGraph(part, b, {
    ...writing(options),
    name: "U-Net gradient",
    outputs: { prediction, ...product.outputs },
    gradients: product.gradients,
  });
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
 * Outputs `image` and, as `gradients` names it, that of `latents`.
 */
export function decodeVjpGraph(
  part: Part<VaeConfig>,
  size: LatentsSize & GraphOptions,
): ModelGraph {
  const { b, latents, image } = buildDecoder(part, { ...size, differentiable: true });
  const wrt = new Map([["latents", latents]]);
  const product = gradientOutputs(b, [seed(b, image)], { wrt, ...size });
  return modelGraph(part, b, {
    ...writing(size),
    name: "VAE decoder gradient",
    outputs: { image, ...product.outputs },
    gradients: product.gradients,
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
  { inChannels, contextWidth, textTime, guidanceWidth }: UNetConfig,
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
    ...(guidanceWidth !== undefined && {
      timestep_cond: float(contexts * batch, guidanceWidth),
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
  { changes = [], ...options }: UNetSize & GraphOptions & {
    readonly changes?: readonly ModuleChange[];
    readonly differentiable: boolean;
  },
) {
  const b = new Builder({ differentiable: options.differentiable });
  const { sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond } =
    unetInputTypes(config, options);
  const inputs: UNetInputs = {
    sample: b.input("sample", sample),
    timestep: b.input("timestep", timestep),
    encoder_hidden_states: b.input("encoder_hidden_states", encoder_hidden_states),
    ...(text_embeds && time_ids && {
      text_embeds: b.input("text_embeds", text_embeds),
      time_ids: b.input("time_ids", time_ids),
    }),
    ...(timestep_cond && { timestep_cond: b.input("timestep_cond", timestep_cond) }),
  };
  const changed = new ChangeInputs(b, changes, options.target?.precision);
  const prediction = unet(new WeightScope(b, weights, { changes: changed }), inputs, { config });
  checkUsed(changed, "U-Net");
  return { b, inputs, changed, prediction };
}

function buildDecoder(
  { config, weights }: Part<VaeConfig>,
  options: LatentsSize & GraphOptions & { readonly differentiable: boolean },
) {
  const b = new Builder({ differentiable: options.differentiable });
  const latents = b.input("latents", decoderInputTypes(config, options).latents);
  return { b, latents, image: vaeDecode(new WeightScope(b, weights), latents, config) };
}

/** What a product starts from: a result, and d loss / d result as the input "cotangent". */
export function seed(b: Builder, value: Value): Seed {
  return { value, cotangent: b.input("cotangent", value) };
}
