import { float32, int64 } from "../../autodiff/mod.ts";
import { cut } from "../../base/mod.ts";
import type { FlowKind, FlowPipeline, TextEncoder } from "../../models/flow/mod.ts";
import { type Encoding, loadClipTokenizer, loadTextTokenizer } from "../../models/tokenizer/mod.ts";
import type { Conditioning, PromptEncoder, PromptOptions } from "../batch/mod.ts";
import { drawnPrompt } from "../prompt_columns.ts";
import { concatBatch, type Float32Tensor } from "../tensors.ts";
import { asFloat32 } from "./_as_float32.ts";
import { encoderLayers } from "./encoder_layers.ts";
import { joinLast } from "./_join_last.ts";
import { TextNetworks, type TextNetworksOptions } from "./_text_networks.ts";

/** How a flow pipeline's prompts are encoded. */
export interface FlowTextOptions {
  /** Tokens of T5 or Qwen. Default: what diffusers' pipelines take, 256 in SD 3, 512 in the others. */
  readonly maxSequenceLength?: number | undefined;
  /** Layers of Qwen that FLUX.2 reads, 0 the embeddings. Default: 9, 18 and 27. */
  readonly layers?: readonly number[] | undefined;
}

/** One prompt, encoded. */
export interface EncodedPrompt {
  /** [1, tokens, width]. */
  readonly states: Float32Tensor;
  /** [1, width]. */
  readonly pooled?: Float32Tensor | undefined;
}

/** A text encoder with its tokenizer. */
interface Reader {
  readonly encoder: TextEncoder;
  readonly tokens: number;
  tokenize(prompt: string): Encoding;
}

type Encode = (prompt: string) => Promise<EncodedPrompt>;

/** Tokens of a CLIP tower. */
const CLIP_TOKENS = 77;

/**
 * A flow pipeline's text encoders. Prompts longer than the tokenizers' lengths are cut, as diffusers does. Prompts are
 * encoded one by one; what was encoded is kept.
 */
export class FlowPromptEncoder implements PromptEncoder {
  readonly #pipeline: FlowPipeline;
  readonly #networks: TextNetworks;
  readonly #maxLength: number;
  readonly #encoders: readonly Reader[];
  readonly #layers: readonly number[];

  /** Reads the tokenizers. Throws `TokenizerError` for what is wrong with them. */
  constructor(
    pipeline: FlowPipeline,
    { text = {}, ...networks }: TextNetworksOptions & {
      readonly text?: FlowTextOptions | undefined;
    },
  ) {
    this.#pipeline = pipeline;
    this.#networks = new TextNetworks(networks);
    this.#layers = encoderLayers(pipeline, text.layers);
    this.#maxLength = text.maxSequenceLength ?? (pipeline.kind === "sd3" ? 256 : 512);
    this.#encoders = pipeline.encoders.map((encoder) => {
      if (encoder.kind === "clip") {
        const tokenizer = loadClipTokenizer(encoder.tokenizer);
        const tokens = Math.min(CLIP_TOKENS, encoder.part.config.contextLength);
        return {
          encoder,
          tokens,
          tokenize: (prompt) => tokenizer.encode(prompt, { maxLength: tokens }),
        };
      }
      const tokenizer = loadTextTokenizer(encoder.tokenizer);
      const tokens = this.#maxLength;
      return { encoder, tokens, tokenize: (prompt) => tokenizer.encode(prompt, tokens) };
    });
  }

  remark(prompts: readonly string[]): string | undefined {
    const longest = this.#encoders.at(-1);
    if (longest === undefined) return undefined;
    const isChat = longest.encoder.kind === "qwen3";
    const long = prompts.map(drawnPrompt).filter((prompt) =>
      longest.tokenize(isChat ? qwenChat(prompt, { mayThink: true }) : prompt).truncated
    );
    const [first] = long;
    if (first === undefined) return undefined;
    return `The model reads ${longest.tokens} tokens of a prompt; ${long.length} of ` +
      `${prompts.length} prompts are longer and are cut: ${JSON.stringify(cut(first, 60))}` +
      (long.length > 1 ? ", …" : "");
  }

  async encode(
    prompts: readonly string[],
    { negative, embeddedGuidance = 3.5 }: PromptOptions,
  ): Promise<{ conditional: Conditioning; unconditional: Conditioning }> {
    const batch = async (texts: readonly string[]): Promise<Conditioning> => {
      const all: EncodedPrompt[] = [];
      for (const text of texts) all.push(await this.#encode(text));
      const pooled = all.flatMap((e) => e.pooled ?? []);
      const lengths = all.map(({ states }) => states.shape[1] ?? 0);
      return {
        encoder_hidden_states: concatBatch(
          all.map(({ states }) => filledUp(states, Math.max(...lengths))),
        ),
        ...(this.#pipeline.transformer.textTokens && {
          encoder_tokens: float32(lengths, [lengths.length]),
        }),
        ...(pooled.length > 0 && { pooled_projections: concatBatch(pooled) }),
        ...(this.#pipeline.transformer.readsGuidance && {
          guidance: float32(texts.map(() => embeddedGuidance), [texts.length]),
        }),
      };
    };
    return await this.#networks.during(async () => ({
      conditional: await batch(prompts.map(drawnPrompt)),
      unconditional: await batch(prompts.map((_, i) => negative?.[i] ?? "")),
    }));
  }

  async prepare(
    prompts: readonly string[],
    onProgress: (done: number) => void | Promise<void> = () => {},
  ): Promise<void> {
    await this.#networks.during(async () => {
      for (const [i, text] of ["", ...prompts.map(drawnPrompt)].entries()) {
        await this.#encode(text);
        await onProgress(i);
      }
    });
  }

  get #encode(): Encode {
    const encode: Record<FlowKind, Encode> = {
      sd3: (prompt) => this.#sd3(prompt),
      flux: (prompt) => this.#flux(prompt),
      flux2: (prompt) => this.#flux2(prompt),
      zimage: (prompt) => this.#zImage(prompt),
    };
    return encode[this.#pipeline.kind];
  }

  /** T5's tokens, and CLIP's pooled state. */
  async #flux(prompt: string): Promise<EncodedPrompt> {
    const [clip, t5] = this.#encoders;
    if (clip === undefined || t5 === undefined) throw new TypeError("FLUX.1 has two encoders");
    const { pooled } = await this.#clip(clip, prompt);
    return { states: await this.#states(t5, prompt), pooled };
  }

  /** Some layers of Qwen side by side, padding and all. */
  async #flux2(prompt: string): Promise<EncodedPrompt> {
    const [qwen] = this.#encoders;
    if (qwen === undefined) throw new TypeError("FLUX.2 has an encoder");
    return { states: await this.#states(qwen, qwenChat(prompt, { mayThink: false })) };
  }

  /** Qwen's last layer but one, without padding. */
  async #zImage(prompt: string): Promise<EncodedPrompt> {
    const [qwen] = this.#encoders;
    if (qwen === undefined) throw new TypeError("Z-Image has an encoder");
    const text = qwenChat(prompt, { mayThink: true });
    const { length } = qwen.tokenize(text);
    const padded = this.#pipeline.transformer.textTokens?.(length) ?? length;
    const tokens = Math.min(padded, qwen.tokens);
    const states = await this.#states({ ...qwen, tokens }, text);
    const width = states.shape[2] ?? 1;
    const own = states.data.slice(0, length * width);
    return { states: float32(own, [1, length, width]) };
  }

  /** Both CLIPs side by side, filled up with zeros, then T5's tokens; without a T5 zeros stand for them. */
  async #sd3(prompt: string): Promise<EncodedPrompt> {
    const { textWidth } = this.#pipeline;
    const clips: { states: Float32Tensor; pooled: Float32Tensor }[] = [];
    let more: Float32Tensor | undefined;
    for (const one of this.#encoders) {
      if (one.encoder.kind === "clip") clips.push(await this.#clip(one, prompt));
      else more = await this.#states(one, prompt);
    }
    const joined = joinLast(clips.map(({ states }) => states));
    const [, tokens = 0, width = 0] = joined.shape;
    const length = tokens + this.#maxLength;
    const pooled = clips.flatMap((clip) => [...clip.pooled.data]);
    const states = new Float32Array(length * textWidth);
    for (let t = 0; t < tokens; t++) {
      states.set(joined.data.subarray(t * width, (t + 1) * width), t * textWidth);
    }
    if (more !== undefined) states.set(more.data, tokens * textWidth);
    return {
      states: float32(states, [1, length, textWidth]),
      pooled: float32(pooled, [1, pooled.length]),
    };
  }

  async #clip(
    { encoder, tokens, tokenize }: Reader,
    prompt: string,
  ): Promise<{ states: Float32Tensor; pooled: Float32Tensor }> {
    const { ids } = tokenize(prompt);
    const feeds = { input_ids: int64([...ids], [1, tokens]) };
    const { states, pooled } = await this.#networks.encode(encoder, { feeds, tokens, layers: [] });
    return { states: asFloat32("states", states), pooled: asFloat32("pooled", pooled) };
  }

  async #states({ encoder, tokens, tokenize }: Reader, prompt: string): Promise<Float32Tensor> {
    const { ids, mask } = tokenize(prompt);
    const feeds = {
      input_ids: int64([...ids.subarray(0, tokens)], [1, tokens]),
      ...(encoder.kind === "qwen3" && {
        attention_mask: float32([...mask.subarray(0, tokens)], [1, tokens]),
      }),
    };
    const { states } = await this.#networks.encode(encoder, {
      feeds,
      tokens,
      layers: this.#layers,
    });
    return asFloat32("states", states);
  }
}

/** Text states [1, N, width] with rows of zeros up to `tokens`. */
function filledUp(states: Float32Tensor, tokens: number): Float32Tensor {
  const [, own = 0, width = 1] = states.shape;
  if (own === tokens) return states;
  const data = new Float32Array(tokens * width);
  data.set(states.data);
  return float32(data, [1, tokens, width]);
}

/**
 * A prompt as Qwen3's chat template has it for one message of a user, where the answer is to begin. A model that may not
 * think is told so by an empty thought.
 */
function qwenChat(prompt: string, { mayThink }: { readonly mayThink: boolean }): string {
  const thought = mayThink ? "" : "<think>\n\n</think>\n\n";
  return `<|im_start|>user\n${prompt}<|im_end|>\n<|im_start|>assistant\n${thought}`;
}
