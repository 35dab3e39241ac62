import { Builder, type ValueType } from "../../autodiff/mod.ts";
import { clipText, type ClipTextConfig, clipTextProjection, clipTextScope } from "../clip/mod.ts";
import {
  type GraphOptions,
  inPieces,
  type ModelGraph,
  modelGraph,
  type Part,
  type PieceOptions,
  type Pieces,
} from "../diffusers/mod.ts";
import { compose, type Segment } from "../segments.ts";
import { type Qwen3Config, qwen3Segments } from "../qwen3/mod.ts";
import { type T5Config, t5Segments } from "../t5/mod.ts";
import { WeightScope } from "../weight_scope.ts";

/**
 * A text encoder of a flow pipeline: what it is, where its tokenizer lies, and what the pipeline reads of it.
 * CLIP towers give the last but one layer's states and a projected vector, or (FLUX.1's) the vector alone, unprojected.
 */
export type TextEncoder =
  | {
    readonly kind: "clip";
    readonly part: Part<ClipTextConfig>;
    readonly tokenizer: string;
    readonly isProjected: boolean;
  }
  | { readonly kind: "t5"; readonly part: Part<T5Config>; readonly tokenizer: string }
  | { readonly kind: "qwen3"; readonly part: Part<Qwen3Config>; readonly tokenizer: string };

/** How many tokens a text encoder reads, and how it is computed. */
export interface TextGraphOptions extends GraphOptions {
  readonly tokens: number;
  /** Layers whose states are wanted, of Qwen3: see `qwen3Segments`. */
  readonly layers?: readonly number[] | undefined;
}

/**
 * A CLIP tower as a graph: input `input_ids` int64 [1, tokens]; outputs `states` [1, tokens, width], the last but one
 * layer's without the final normalization, and `pooled` [1, width], projected or, from the normalized last layer, not.
 */
export function clipGraph(
  { part, isProjected }: Extract<TextEncoder, { kind: "clip" }>,
  { tokens, ...options }: TextGraphOptions,
): ModelGraph {
  const b = new Builder();
  const s = new WeightScope(b, part.weights);
  const ids = b.input("input_ids", { dtype: "int64", shape: [1, tokens] });
  const { last, hidden, pooled } = clipText(clipTextScope(s), ids, part.config);
  return modelGraph(part, b, {
    ...options,
    name: "CLIP text encoder",
    outputs: {
      states: hidden.at(-2) ?? last,
      pooled: isProjected ? clipTextProjection(s, pooled, part.config) : pooled,
    },
  });
}

/** A text encoder in segments: what it reads, and what the last segment makes. */
interface Encoder {
  readonly name: string;
  readonly inputs: Readonly<Record<string, ValueType>>;
  readonly segments: readonly Segment<{ readonly b: Builder; readonly s: WeightScope }>[];
}

function encoderOf(
  encoder: Exclude<TextEncoder, { kind: "clip" }>,
  { tokens, layers = [] }: TextGraphOptions,
): Encoder {
  if (encoder.kind === "qwen3") {
    return {
      name: "Qwen3 text encoder",
      inputs: {
        input_ids: { dtype: "int64", shape: [1, tokens] },
        attention_mask: { dtype: "float32", shape: [1, tokens] },
      },
      segments: qwen3Segments(encoder.part.config, { tokens, wanted: layers }),
    };
  }
  return {
    name: "T5 text encoder",
    inputs: { input_ids: { dtype: "int64", shape: [1, tokens] } },
    segments: t5Segments(encoder.part.config, { tokens }),
  };
}

/**
 * A T5 or a Qwen3 as one graph: input `input_ids` int64 [1, tokens], of Qwen3 `attention_mask` float32 [1, tokens] too,
 * output `states` [1, tokens, width].
 */
export function encoderGraph(
  encoder: Exclude<TextEncoder, { kind: "clip" }>,
  options: TextGraphOptions,
): ModelGraph {
  const { part } = encoder;
  const { name, inputs, segments } = encoderOf(encoder, options);
  const b = new Builder();
  const given = Object.fromEntries(
    Object.entries(inputs).map(([input, type]) => [input, b.input(input, type)]),
  );
  const context = { b, s: new WeightScope(b, part.weights) };
  const states = compose(segments, { context, inputs: given });
  return modelGraph(part, b, {
    name,
    outputs: { states },
    target: options.target,
    policy: options.policy,
  });
}

/** `encoderGraph` in pieces. */
export function encoderPieces(
  encoder: Exclude<TextEncoder, { kind: "clip" }>,
  { lengths, ...options }: TextGraphOptions & Pick<PieceOptions, "lengths">,
): Pieces {
  const { part } = encoder;
  return inPieces(part, {
    ...encoderOf(encoder, options),
    target: options.target,
    policy: options.policy,
    lengths,
    forwardOnly: true,
    wrt: [],
    build: () => {
      const b = new Builder();
      return { b, s: new WeightScope(b, part.weights) };
    },
  });
}
