import { createHash } from "node:crypto";
import { float32 } from "../../autodiff/mod.ts";
import type { Precision, Target } from "../../compile/mod.ts";
import { type Pipeline, type UNetConfig, unetModules } from "../../models/diffusers/mod.ts";
import {
  type Adapter,
  changeShapes,
  initialLora,
  loraChanges,
  type LoraConfig,
  type ModuleChange,
} from "../../models/lora/mod.ts";
import type { Engine, Feed, SessionOptions } from "../../runtime/mod.ts";
import { FieldError } from "../errors.ts";
import type { Decoder, DenoiserRows } from "../batch/mod.ts";
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
import { ImageDecoder } from "./_image_decoder.ts";
import { encodeImages } from "./_latent_encoder.ts";
import { NetworkRunner } from "./network_runner.ts";
import { type RunnableNetwork, unetNetwork, type UNetTask } from "./runnable_network.ts";
import type { AdaptedDenoiser, Model } from "./model.ts";
import { PipelinePromptEncoder } from "./prompt_encoder.ts";

/** How much runs at once: batch rows times latent positions (height times width). At least one row always does. */
export interface MemoryLimits {
  /** The U-Net forward. Default 32,768: 8 rows at 64x64. */
  readonly forward?: number | undefined;
  /** The U-Net's products, both branches of guidance counted. Default 8,192: 2 rows at 64x64. */
  readonly products?: number | undefined;
  /** The VAE decoder. Default 16,384: 4 images at 64x64. */
  readonly decode?: number | undefined;
  /** The VAE decoder's products. Default 4,096: 1 image at 64x64. */
  readonly decodeProducts?: number | undefined;
  /** Sessions kept loaded; each batch size of each network takes one. Default 16. */
  readonly sessions?: number | undefined;
  /**
   * Bytes that the engine's process should stay within. Networks that would not fit in one graph run in pieces, whose
   * activations are computed again for the gradient, and sessions are freed before others are loaded. Default: no bound.
   */
  readonly memory?: number | undefined;
}

/** How a pipeline is run. */
export interface PipelineModelOptions {
  /** The U-Net's adapter: a plain LoRA, or any changes of its weights; `adapt` is given their tensors. */
  readonly lora: LoraConfig | readonly ModuleChange[];
  /** What changes the text encoders, in their order, once and for all. */
  readonly textAdapters?: readonly (Adapter | undefined)[] | undefined;
  /** What the U-Net and the text encoders compute in. Default "float32". */
  readonly precision?: Precision | undefined;
  readonly session?: SessionOptions | undefined;
  readonly limits?: MemoryLimits | undefined;
}

/** What runs at once where `MemoryLimits` does not say. */
export const DEFAULT_LIMITS = {
  forward: 32_768,
  products: 8_192,
  decode: 16_384,
  decodeProducts: 4_096,
} as const;

/**
 * A diffusers pipeline in an engine. Graphs are written for the sizes that occur and loaded when first needed; work
 * beyond the limits runs in parts, which changes nothing but rounding. Makes nothing until it is used, except that
 * tokenizers are read, and the LoRA configuration (`RangeError`) and the precision (`FieldError`) are checked.
 */
export class PipelineModel implements Model {
  readonly prompts: PipelinePromptEncoder;
  readonly decoder: Decoder;
  readonly latentChannels: number;
  readonly #pipeline: Pipeline;
  readonly #engine: Engine;
  readonly #changes: readonly ModuleChange[];
  readonly #limits: Required<{ [K in keyof typeof DEFAULT_LIMITS]: number }>;
  readonly #target: Target;
  readonly #networks = new Map<string, RunnableNetwork>();
  readonly #runner: NetworkRunner;

  constructor(
    pipeline: Pipeline,
    engine: Engine,
    { lora, textAdapters, precision = "float32", session = {}, limits = {} }: PipelineModelOptions,
  ) {
    this.#changes = "rank" in lora ? loraChanges(unetModules(pipeline.unet), lora) : lora;
    checkPrecision(precision, pipeline.unet.config);
    this.#pipeline = pipeline;
    this.#engine = engine;
    const limit = (name: keyof typeof DEFAULT_LIMITS) => limits[name] ?? DEFAULT_LIMITS[name];
    this.#limits = {
      forward: limit("forward"),
      products: limit("products"),
      decode: limit("decode"),
      decodeProducts: limit("decodeProducts"),
    };
    const { memory = Infinity, sessions } = limits;
    this.#target = {
      provider: session.provider ?? "cpu",
      memory,
      precision,
      threads: session.intraOpNumThreads,
    };
    this.#runner = new NetworkRunner(engine, { session, memory, sessions });
    this.prompts = new PipelinePromptEncoder(pipeline, {
      runner: this.#runner,
      target: this.#target,
      adapters: textAdapters,
    });
    this.latentChannels = pipeline.unet.config.inChannels;
    this.decoder = new ImageDecoder(pipeline.vae, {
      runner: this.#runner,
      target: this.#target,
      limits: this.#limits,
    });
  }

  async encode(images: Float32Tensor): Promise<Float32Tensor> {
    const running = { runner: this.#runner, target: this.#target };
    return await encodeImages(this.#pipeline.vae, images, running);
  }

  async digest(): Promise<string> {
    const { unet, vae, textEncoders } = this.#pipeline;
    const hash = createHash("sha256");
    for (const { weights } of [unet, vae, ...textEncoders]) {
      hash.update(`${await weights.digest()}\n`);
    }
    return hash.digest("hex");
  }

  initialParameters(seed: number): Parameters {
    return initialLora(this.#changes.flatMap(changeShapes), seed);
  }

  async adapt(parameters: Parameters, { scale = 1 } = {}): Promise<AdaptedDenoiser> {
    const { feeds, update, release } = await keepAdapter(this.#engine, parameters, scale);
    return {
      guidance: this.#pipeline.unet.config.guidanceWidth === undefined
        ? "classifier-free"
        : "embedded",
      predict: (rows) => this.#predict(rows, feeds),
      vjp: (rows, cotangents, { input }) => this.#product(rows, { cotangents, input, feeds }),
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
    for (const { part } of parts(rows, this.#limits.forward)) {
      const feeds = { ...lora, ...feedsOf(part) };
      const network = this.#unet("prediction", part);
      const prediction = await this.#runner.forward(network, feeds);
      const all = asFloat32("prediction", prediction);
      const rows = batchOf(part.x);
      out.forEach((list, b) => list.push(sliceBatch(all, b * rows, (b + 1) * rows)));
    }
    return out.map(concatBatch);
  }

  async #product(
    rows: DenoiserRows,
    { cotangents, input, feeds }: {
      readonly cotangents: readonly Float32Tensor[];
      readonly input: boolean;
      readonly feeds: Readonly<Record<string, Feed>>;
    },
  ): Promise<{ parameters: Parameters; x?: Float32Tensor }> {
    const parameters: Record<string, Float32Tensor> = {};
    const xs: Float32Tensor[] = [];
    for (const { part, start, end } of parts(rows, this.#limits.products)) {
      const cotangent = concatBatch(cotangents.map((t) => sliceBatch(t, start, end)));
      const network = this.#unet(input ? "product with input" : "product", part);
      const out = await this.#runner.vjp(network, {
        feeds: { ...feeds, ...feedsOf(part) },
        cotangent,
      });
      const { sample, ...gradients } = out;
      if (input) xs.push(asFloat32("gradient of sample", sample));
      accumulate(parameters, parametersOf(gradients));
    }
    return input ? { parameters, x: concatBatch(xs) } : { parameters };
  }

  #unet(task: UNetTask, { x, branches }: DenoiserRows): RunnableNetwork {
    const [batch = 1, , height = 1, width = 1] = x.shape;
    const { tokens } = this.prompts;
    const size = { batch, contexts: branches.length, height, width, tokens };
    return this.#network(
      `${task} ${Object.values(size)}`,
      () =>
        unetNetwork(this.#pipeline.unet, { task, size, changes: this.#changes, ...this.#target }),
    );
  }

  #network(key: string, make: () => RunnableNetwork): RunnableNetwork {
    const network = this.#networks.get(key) ?? make();
    this.#networks.set(key, network);
    return network;
  }
}

/** Throws `FieldError` where a U-Net does not compute in `precision`. */
export function checkPrecision(precision: Precision, { upcastAttention }: UNetConfig): void {
  if (precision === "float32" || !upcastAttention) return;
  throw new FieldError(
    "precision",
    `is "${precision}", expected "float32": this model's attention overflows in float16, as its ` +
      "upcast_attention says",
  );
}

/** Rows in parts of at most `limit` latent positions, those of all branches counted. */
function parts(
  { x, timesteps, branches }: DenoiserRows,
  limit: number,
): { readonly part: DenoiserRows; readonly start: number; readonly end: number }[] {
  const [batch = 1, , height = 1, width = 1] = x.shape;
  return chunks(batch, limit / (branches.length * height * width)).map(([start, end]) => {
    const rows = (t: Float32Tensor) => sliceBatch(t, start, end);
    const part = {
      x: rows(x),
      timesteps: timesteps.slice(start, end),
      branches: branches.map((conditioning) => mapParameters(conditioning, rows)),
    };
    return { part, start, end };
  });
}

function feedsOf({ x, timesteps, branches }: DenoiserRows): Record<string, Feed> {
  const conditioning = Object.keys(branches[0] ?? {}).map((name) => {
    const tensors = branches.map((branch) => asFloat32(name, branch[name]));
    return [name, concatBatch(tensors)] as const;
  });
  return { sample: x, timestep: float32([...timesteps]), ...Object.fromEntries(conditioning) };
}
