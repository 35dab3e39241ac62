import { float32, int64 } from "../../autodiff/mod.ts";
import { cut } from "../../base/mod.ts";
import type { Target } from "../../compile/mod.ts";
import type { Adapter, LoraTensors } from "../../models/lora/mod.ts";
import {
  guidanceEmbedding,
  imageSize,
  type Pipeline,
  textGraphs,
} from "../../models/diffusers/mod.ts";
import { type ClipTokenizer, loadClipTokenizer } from "../../models/tokenizer/mod.ts";
import type { Session } from "../../runtime/mod.ts";
import type { Conditioning, PromptEncoder, PromptOptions } from "../batch/mod.ts";
import { drawnPrompt } from "../prompt_columns.ts";
import { concatBatch, type Float32Tensor } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";
import { joinLast } from "./_join_last.ts";
import type { NetworkRunner } from "./network_runner.ts";

/** The scale of guidance that latent consistency models are published with. */
export const LCM_GUIDANCE = 8.5;

interface Encoded {
  /** [1, tokens, width]. */
  readonly states: Float32Tensor;
  /** [1, width], SDXL's. */
  readonly pooled?: Float32Tensor;
}

/**
 * A pipeline's text encoders. Prompts longer than the tokenizer's length are cut, as diffusers does. Prompts are
 * encoded one by one, so that one session serves every batch.
 */
export class PipelinePromptEncoder implements PromptEncoder {
  readonly #pipeline: Pipeline;
  readonly #runner: NetworkRunner;
  readonly #target: Target;
  readonly #adapters: readonly (Adapter | undefined)[];
  readonly #tokenizers: readonly ClipTokenizer[];
  #empty: Promise<Encoded> | undefined;

  /** Reads the tokenizers. Throws `TokenizerError` for what is wrong with them. */
  constructor(
    pipeline: Pipeline,
    { runner, target, adapters = [] }: {
      readonly runner: NetworkRunner;
      readonly target: Target;
      /** What changes each encoder's weights. */
      readonly adapters?: readonly (Adapter | undefined)[] | undefined;
    },
  ) {
    this.#pipeline = pipeline;
    this.#target = target;
    this.#runner = runner;
    this.#adapters = adapters;
    this.#tokenizers = pipeline.tokenizers.map((place) => loadClipTokenizer(place));
  }

  /** Text tokens that the U-Net attends to. */
  get tokens(): number {
    const context = this.#pipeline.textEncoders[0]?.config.contextLength ?? Infinity;
    return Math.min(this.#tokenizers[0]?.modelMaxLength ?? context, context);
  }

  remark(prompts: readonly string[]): string | undefined {
    const { tokens: maxLength } = this;
    const long = prompts.map(drawnPrompt).filter((prompt) =>
      this.#tokenizers.some((tokenizer) => tokenizer.encode(prompt, { maxLength }).truncated)
    );
    const [first] = long;
    if (first === undefined) return undefined;
    return `The model reads ${maxLength} tokens of a prompt; ${long.length} of ${prompts.length} prompts ` +
      `are longer and are cut: ${JSON.stringify(cut(first, 60))}${long.length > 1 ? ", …" : ""}`;
  }

  async encode(
    prompts: readonly string[],
    { height: rows, width: columns, negative, embeddedGuidance = LCM_GUIDANCE }: PromptOptions,
  ): Promise<{ conditional: Conditioning; unconditional: Conditioning }> {
    const encoded: Encoded[] = [];
    for (const line of prompts) encoded.push(await this.#encode(drawnPrompt(line)));
    const others: Encoded[] = [];
    for (const i of prompts.keys()) {
      const prompt = negative?.[i] ?? "";
      others.push(
        prompt === "" ? await (this.#empty ??= this.#unconditional()) : await this.#encode(prompt),
      );
    }
    const { height, width } = imageSize(this.#pipeline.vae.config, {
      height: rows,
      width: columns,
    });
    // Original size, crop corner, target size: an uncropped image of the size drawn.
    const timeIds = [height, width, 0, 0, height, width];
    const { guidanceWidth } = this.#pipeline.unet.config;
    const batch = (all: readonly Encoded[]): Conditioning => {
      const states = concatBatch(all.map((e) => e.states));
      const common = {
        encoder_hidden_states: states,
        ...(guidanceWidth !== undefined && {
          timestep_cond: guidanceEmbedding(embeddedGuidance, {
            rows: all.length,
            width: guidanceWidth,
          }),
        }),
      };
      if (this.#pipeline.kind === "sd") return common;
      return {
        ...common,
        text_embeds: concatBatch(all.flatMap((e) => e.pooled ?? [])),
        time_ids: float32(all.flatMap(() => timeIds), [all.length, timeIds.length]),
      };
    };
    return { conditional: batch(encoded), unconditional: batch(others) };
  }

  async #unconditional(): Promise<Encoded> {
    const empty = await this.#encode("");
    if (!this.#pipeline.forceZerosForEmptyPrompt) return empty;
    const zeros = (t: Float32Tensor) => float32(new Float32Array(t.data.length), t.shape);
    return {
      states: zeros(empty.states),
      ...(empty.pooled && { pooled: zeros(empty.pooled) }),
    };
  }

  async #encode(prompt: string): Promise<Encoded> {
    const { tokens } = this;
    const states: Float32Tensor[] = [];
    let pooled: Float32Tensor | undefined;
    for (const [i, tokenizer] of this.#tokenizers.entries()) {
      const build = () => {
        const changes = this.#pipeline.textEncoders.map((_, e) => this.#adapters[e]?.changes ?? []);
        const options = { batch: 1, tokens, target: this.#target, changes };
        const graph = textGraphs(this.#pipeline, options)[i];
        if (graph === undefined) throw new RangeError(`Tokenizer ${i} has no text encoder`);
        return graph;
      };
      const { ids } = tokenizer.encode(prompt, { maxLength: tokens });
      const input_ids = int64([...ids], [1, tokens]);
      const tensors = this.#adapters[i]?.tensors ?? {};
      const run = (session: Session) => session.run({ ...readBy(session, tensors), input_ids });
      const out = await this.#runner.use(`text ${i}`, build, run);
      states.push(asFloat32("states", out.states));
      if (out.pooled !== undefined) pooled = asFloat32("pooled", out.pooled);
    }
    return { states: joinLast(states), ...(pooled && { pooled }) };
  }
}

/** Those of an adapter's tensors that a graph reads: SDXL's encoders have a last block that nothing depends on. */
function readBy({ inputNames }: Session, tensors: LoraTensors): LoraTensors {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => inputNames.includes(name)));
}
