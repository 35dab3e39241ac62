import { createHash } from "node:crypto";
import { float32 } from "../../autodiff/mod.ts";
import type { Target } from "../../compile/mod.ts";
import {
  type FlowPipeline,
  timestepProjection,
  type TransformerSize,
} from "../../models/flow/mod.ts";
import {
  changeShapes,
  initialLora,
  loraChanges,
  type ModuleChange,
} from "../../models/lora/mod.ts";
import type { Engine, Feed } from "../../runtime/mod.ts";
import type { Conditioning, Decoder, DenoiserRows, GuidanceKind } from "../batch/mod.ts";
import {
  accumulate,
  batchOf,
  concatBatch,
  type Float32Tensor,
  mapParameters,
  type Parameters,
  sliceBatch,
} from "../tensors.ts";
import { keepAdapter } from "./_adapter.ts";
import { parametersOf } from "./_parameters_of.ts";
import { asFloat32 } from "./_as_float32.ts";
import { chunks } from "./_chunks.ts";
import { FlowPromptEncoder, type FlowTextOptions } from "./flow_prompts.ts";
import { ImageDecoder } from "./_image_decoder.ts";
import { encodeImages } from "./_latent_encoder.ts";
import type { AdaptedDenoiser, Model } from "./model.ts";
import { NetworkRunner } from "./network_runner.ts";
import type { TextNetworksOptions } from "./_text_networks.ts";
import { DEFAULT_LIMITS, type PipelineModelOptions } from "./pipeline_model.ts";
import { type RunnableNetwork, transformerNetwork, type UNetTask } from "./runnable_network.ts";

/** How a flow pipeline is run. */
export interface FlowModelOptions extends PipelineModelOptions {
  readonly text?: FlowTextOptions | undefined;
  /** Where what text encoders made is kept on disk, and how an engine of their own is opened; see `TextNetworksOptions`. */
  readonly encoders?: Pick<TextNetworksOptions, "cacheDir" | "openEngine"> | undefined;
}

/** One row of one branch: what the transformer reads there, and where its result belongs. */
interface Item {
  readonly branch: number;
  readonly row: number;
  readonly timestep: number;
  readonly x: Float32Tensor;
  readonly conditioning: Conditioning;
  /** What its graph is written for. */
  readonly size: Omit<TransformerSize, "batch">;
}

/**
 * A diffusers pipeline of a flow in an engine: `Model` for the families of models/flow. What it predicts is the
 * velocity dx / d sigma; timesteps are 1000 sigma in every family. Graphs are written for the sizes that occur and
 * loaded when first needed; work beyond the limits runs in parts, which changes nothing but rounding.
 */
export class FlowModel implements Model {
  readonly prompts: FlowPromptEncoder;
  readonly decoder: Decoder;
  readonly latentChannels: number;
  readonly #pipeline: FlowPipeline;
  readonly #engine: Engine;
  readonly #changes: readonly ModuleChange[];
  readonly #limits: { readonly forward: number; readonly products: number };
  readonly #target: Target;
  readonly #networks = new Map<string, RunnableNetwork>();
  readonly #runner: NetworkRunner;

  /** Reads tokenizers. Throws `RangeError` for a LoRA that is not for this transformer. */
  constructor(
    pipeline: FlowPipeline,
    engine: Engine,
    { lora, precision = "float32", session = {}, limits = {}, text, encoders }: FlowModelOptions,
  ) {
    const { layers, targets } = pipeline.transformer;
    this.#changes = "rank" in lora
      ? loraChanges(layers, { ...lora, targets: lora.targets ?? targets })
      : lora;
    this.#pipeline = pipeline;
    this.#engine = engine;
    const limit = (name: keyof typeof DEFAULT_LIMITS) => limits[name] ?? DEFAULT_LIMITS[name];
    this.#limits = { forward: limit("forward"), products: limit("products") };
    const { memory = Infinity, sessions } = limits;
    this.#target = {
      provider: session.provider ?? "cpu",
      memory,
      precision,
      threads: session.intraOpNumThreads,
    };
    const running = { session, memory, sessions };
    this.#runner = new NetworkRunner(engine, running);
    this.prompts = new FlowPromptEncoder(pipeline, {
      ...encoders,
      runner: this.#runner,
      own: running,
      target: this.#target,
      text,
    });
    this.latentChannels = pipeline.transformer.channels;
    this.decoder = new ImageDecoder(pipeline.vae, {
      runner: this.#runner,
      target: this.#target,
      limits: { decode: limit("decode"), decodeProducts: limit("decodeProducts") },
    });
  }

  async encode(images: Float32Tensor): Promise<Float32Tensor> {
    const running = { runner: this.#runner, target: this.#target };
    return await encodeImages(this.#pipeline.vae, images, running);
  }

  async digest(): Promise<string> {
    const { transformer, vae, encoders } = this.#pipeline;
    const hash = createHash("sha256");
    for (const { weights } of [transformer.part, vae, ...encoders.map(({ part }) => part)]) {
      hash.update(`${await weights.digest()}\n`);
    }
    return hash.digest("hex");
  }

  initialParameters(seed: number): Parameters {
    return initialLora(this.#changes.flatMap(changeShapes), seed);
  }

  async adapt(parameters: Parameters, { scale = 1 } = {}): Promise<AdaptedDenoiser> {
    const { feeds, update, release } = await keepAdapter(this.#engine, parameters, scale);
    const zeros = () => mapParameters(parameters, (p) => float32(p.data.map(() => 0), p.shape));
    return {
      guidance: guidanceOf(this.#pipeline),
      predict: (rows) => this.#predict(rows, feeds),
      vjp: async (rows, cotangents, { input }) => {
        const found = await this.#product(rows, { cotangents, input, feeds });
        // What the velocity does not depend on has a gradient, of zeros: queries of the last block's text.
        return { ...found, parameters: { ...zeros(), ...found.parameters } };
      },
      update,
      release,
    };
  }

  async dispose(): Promise<void> {
    await this.#runner.dispose();
  }

  async #predict(
    rows: DenoiserRows,
    lora: Readonly<Record<string, Feed>>,
  ): Promise<readonly Float32Tensor[]> {
    const out = rows.branches.map((): Float32Tensor[] => []);
    for (const items of this.#groups(rows, this.#limits.forward)) {
      const network = this.#network("prediction", items);
      const feeds = { ...lora, ...this.#feeds(items) };
      const all = asFloat32("prediction", await this.#runner.forward(network, feeds));
      for (const [i, { branch, row }] of items.entries()) {
        const list = out[branch];
        if (list !== undefined) list[row] = sliceBatch(all, i, i + 1);
      }
    }
    return out.map(concatBatch);
  }

  async #product(
    rows: DenoiserRows,
    { cotangents, input, feeds: lora }: {
      readonly cotangents: readonly Float32Tensor[];
      readonly input: boolean;
      readonly feeds: Readonly<Record<string, Feed>>;
    },
  ): Promise<{ parameters: Parameters; x?: Float32Tensor }> {
    const parameters: Record<string, Float32Tensor> = {};
    const x = float32(new Float32Array(rows.x.data.length), rows.x.shape);
    for (const items of this.#groups(rows, this.#limits.products)) {
      const cotangent = concatBatch(items.flatMap(({ branch, row }) => {
        const all = cotangents[branch];
        return all === undefined ? [] : [sliceBatch(all, row, row + 1)];
      }));
      const network = this.#network(input ? "product with input" : "product", items);
      const feeds = { ...lora, ...this.#feeds(items) };
      const { sample, ...gradients } = await this.#runner.vjp(network, { feeds, cotangent });
      if (input) {
        const found = asFloat32("gradient of sample", sample);
        for (const [i, { row }] of items.entries()) {
          accumulate({ x: sliceBatch(x, row, row + 1) }, { x: sliceBatch(found, i, i + 1) });
        }
      }
      accumulate(parameters, parametersOf(gradients));
    }
    return input ? { parameters, x } : { parameters };
  }

  /** All rows of all branches, those of one graph together, in groups of at most `limit` latent positions. */
  #groups({ x, timesteps, branches }: DenoiserRows, limit: number): readonly (readonly Item[])[] {
    const bySize = new Map<string, Item[]>();
    const [, , height = 1, width = 1] = x.shape;
    for (const [branch, all] of branches.entries()) {
      for (let row = 0; row < batchOf(x); row++) {
        const { conditioning, size } = this.#rowOf(all, { row, height, width });
        const key = Object.values(size).join(" ");
        const items = bySize.get(key) ?? [];
        bySize.set(key, items);
        items.push({
          branch,
          row,
          timestep: timesteps[row] ?? NaN,
          x: sliceBatch(x, row, row + 1),
          conditioning,
          size,
        });
      }
    }
    return [...bySize.values()].flatMap((items) =>
      chunks(items.length, limit / (height * width)).map(([start, end]) => items.slice(start, end))
    );
  }

  /**
   * What one row is conditioned on: captions that are read as long as they are, with their mask, and equal tokens at
   * the end of a text as one, where that is better.
   */
  #rowOf(
    all: Conditioning,
    { row, ...latents }: { readonly row: number; readonly height: number; readonly width: number },
  ): Pick<Item, "conditioning" | "size"> {
    const { transformer } = this.#pipeline;
    const own = mapParameters(all, (t) => sliceBatch(t, row, row + 1));
    const { encoder_tokens: lengths, encoder_hidden_states: states, ...rest } = own;
    if (states === undefined) return { conditioning: own, size: { ...latents, tokens: 0 } };
    const [, tokens = 0, width = 1] = states.shape;
    const size = { ...latents, tokens };
    const [count] = lengths?.data ?? [];
    if (count !== undefined) {
      const padded = transformer.textTokens?.(count) ?? count;
      const data = new Float32Array(padded * width);
      data.set(states.data.subarray(0, count * width));
      const mask = Array.from({ length: padded }, (_, i) => i < count ? 1 : 0);
      const conditioning = {
        ...rest,
        encoder_hidden_states: float32(data, [1, padded, width]),
        encoder_mask: float32(mask, [1, padded, 1]),
      };
      return { conditioning, size: { ...size, tokens: padded } };
    }
    if (transformer.joinsEqual === undefined) return { conditioning: own, size };
    const equal = equalAtEnd(states);
    if (!transformer.joinsEqual({ batch: 1, ...size }, equal)) return { conditioning: own, size };
    const left = tokens - equal + 1;
    const joined = float32(states.data.slice(0, left * width), [1, left, width]);
    const conditioning = { ...own, encoder_hidden_states: joined };
    return { conditioning, size: { ...size, tokens: left, equal } };
  }

  #network(task: UNetTask, items: readonly Item[]): RunnableNetwork {
    const [first] = items;
    if (first === undefined) throw new TypeError("A network is for at least one row");
    const size = { batch: items.length, ...first.size };
    const key = `${task} ${Object.values(size)}`;
    const { transformer } = this.#pipeline;
    const network = this.#networks.get(key) ??
      transformerNetwork(transformer, { task, size, changes: this.#changes, ...this.#target });
    this.#networks.set(key, network);
    return network;
  }

  #feeds(items: readonly Item[]): Record<string, Feed> {
    const { transformer } = this.#pipeline;
    const gathered = Object.fromEntries(
      Object.keys(items[0]?.conditioning ?? {}).map((name) => [
        name,
        concatBatch(items.map(({ conditioning }) => asFloat32(name, conditioning[name]))),
      ]),
    );
    const { guidance, ...text } = gathered;
    return {
      sample: concatBatch(items.map(({ x }) => x)),
      timestep_proj: timestepProjection(items.map(({ timestep }) => transformer.time(timestep))),
      ...(guidance && {
        guidance_proj: timestepProjection(Array.from(guidance.data, (w) => 1000 * w)),
      }),
      ...text,
    };
  }
}

function guidanceOf({ kind, transformer, isDistilled }: FlowPipeline): GuidanceKind {
  if (transformer.readsGuidance) return "embedded";
  if (kind === "zimage") return "excess";
  // FLUX.1-schnell reads no scale, and is distilled to need none.
  return isDistilled || kind === "flux" ? "none" : "classifier-free";
}

/** How many of the last rows of states [1, N, width] are equal: at least 1. */
function equalAtEnd({ data, shape: [, rows = 0, width = 1] }: Float32Tensor): number {
  const last = (rows - 1) * width;
  let first = last;
  while (first > 0 && data[first - 1] === data[last + (first - 1) % width]) first--;
  return rows - Math.ceil(first / width);
}
