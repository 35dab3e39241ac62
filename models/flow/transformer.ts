import type { Builder, ValueType } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import type { AdaptableLayer } from "../lora/mod.ts";
import type { Segment } from "../segments.ts";
import type { WeightScope } from "../weight_scope.ts";

/** The size of a batch of latents and of the text beside them. */
export interface TransformerSize {
  readonly batch: number;
  /** Of the latents as they are sampled. */
  readonly height: number;
  readonly width: number;
  /** Text tokens attended to. */
  readonly tokens: number;
  /** How many equal tokens the last one of the text stands for, where `joinsEqual` allows it. Default 1. */
  readonly equal?: number | undefined;
}

/** Where the segments of a transformer are built. */
export interface TransformerContext {
  readonly b: Builder;
  readonly s: WeightScope;
}

/** Segments of a transformer. */
export type TransformerSegment = Segment<TransformerContext>;

/**
 * A transformer that predicts the velocity of a flow, dx / d sigma, whatever its family: what its graphs read and do.
 * All of them read `sample`, latents [B, channels, height, width], and `timestep_proj`, see `timestepProjection`; the
 * last segment makes the velocity, the shape of `sample`.
 */
export interface FlowTransformer {
  readonly part: Part<unknown>;
  /** Its modules with weights: see `networkModules`. */
  readonly layers: readonly AdaptableLayer[];
  /** Module names, or their ends, that are adapted by default: the attentions' projections. */
  readonly targets: readonly string[];
  /** Channels of the latents as they are sampled. */
  readonly channels: number;
  /** Whether it applies guidance by itself, at a scale it reads: `guidance_proj`, of 1000 times the scale. */
  readonly readsGuidance: boolean;
  /** What it reads as time, before `timestepProjection`, where the schedule's timestep is `t`, 1000 sigma. */
  time(t: number): number;
  /**
   * How many tokens a caption of `count` tokens takes, where captions are read as long as they are and
   * `encoder_mask` [B, tokens, 1] says where they end. Absent: all are read at one length.
   */
  textTokens?(count: number): number;
  /**
   * Whether text of `size.tokens` that ends in so many equal tokens is better read with one in their place, of which
   * `TransformerSize.equal` says how many it stands for. Absent: equal tokens do not stay equal, as they have positions.
   */
  joinsEqual?(size: TransformerSize, equal: number): boolean;
  /** Types of its inputs, in the order of its graphs. Throws `RangeError` for latents of no size of its. */
  inputTypes(size: TransformerSize): Readonly<Record<string, ValueType>>;
  segments(size: TransformerSize): readonly TransformerSegment[];
}
