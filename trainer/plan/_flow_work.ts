import type { Target } from "../../compile/mod.ts";
import { clipGraph, type FlowPipeline } from "../../models/flow/mod.ts";
import { loraChanges } from "../../models/lora/mod.ts";
import {
  decoderNetwork,
  DEFAULT_LIMITS,
  encoderLayers,
  encoderNetwork,
  type MemoryLimits,
  type RunnableNetwork,
  transformerNetwork,
} from "../model/mod.ts";
import { chunkSizes } from "../model/_chunks.ts";
import type { RunConfig } from "../run/run_config.ts";
import type { MethodMeans, Work } from "./work.ts";

/** Tokens of a CLIP tower at most, and of T5 or Qwen3, by family; see `FlowPromptEncoder`. */
const CLIP_TOKENS = 77;
const LONG_TOKENS = { sd3: 256, flux: 512, flux2: 512, zimage: 512 } as const;

/** The networks that one batch of a flow-matching model runs, in the order of an iteration. */
export function flowWork(
  config: RunConfig,
  { pipeline, target, limits, means }: {
    readonly pipeline: FlowPipeline;
    readonly target: Target;
    readonly limits: MemoryLimits;
    readonly means: MethodMeans;
  },
): readonly Work[] {
  const { kind, transformer, vae, encoders } = pipeline;
  const { batch: { size: images }, guidance, lora, drift } = config;
  const { latentHeight: height = 1, latentWidth: width = 1 } = config;
  const { steps, trained, backward, redraws, nested, inputStopGradient } = means;
  const changes = loraChanges(transformer.layers, lora);
  const long = LONG_TOKENS[kind];
  const layers = encoderLayers(pipeline);
  const clip = Math.min(
    CLIP_TOKENS,
    ...encoders.flatMap(({ kind, part }) => kind === "clip" ? [part.config.contextLength] : []),
  );
  // Stable Diffusion 3 attends to CLIP's tokens and T5's.
  const attended = kind === "sd3" ? clip + long : long;
  // Without T5 zeros stand for its tokens, and one of them for all where `FlowModel` joins them.
  const equal = kind === "sd3" && !encoders.some(({ kind }) => kind === "t5") ? long : 1;
  const all = { batch: 1, height, width, tokens: attended };
  const text = transformer.joinsEqual?.(all, equal)
    ? { tokens: attended - equal + 1, equal }
    : { tokens: attended };
  const limit = (name: keyof typeof DEFAULT_LIMITS) =>
    (limits[name] ?? DEFAULT_LIMITS[name]) / (height * width);
  const network = (
    task: Parameters<typeof transformerNetwork>[1]["task"],
    rows: number,
    times: number,
  ) =>
    // Chunks of a size share one graph: to build it is what a plan takes.
    chunkSizes(rows, limit(task === "prediction" ? "forward" : "products")).map((chunk) => ({
      network: transformerNetwork(transformer, {
        task,
        size: { batch: chunk.size, height, width, ...text },
        changes,
        ...target,
      }),
      times: times * chunk.times,
    }));
  const decoder = (task: "image" | "product") =>
    chunkSizes(images, limit(task === "image" ? "decode" : "decodeProducts")).map((chunk) => ({
      network: decoderNetwork(vae, {
        task,
        size: { batch: chunk.size, height, width },
        ...target,
      }),
      times: (1 + redraws) * chunk.times,
    }));
  const off = kind === "zimage" ? 0 : 1;
  const isGuided = guidance.scale !== off && kind !== "flux";
  const both = isGuided ? 2 : 1;
  const branches = isGuided && guidance.gradient === "both" ? 2 : 1;
  const penalties = drift.weight > 0 ? trained : 0;
  // Pictures are predicted, and their gradient taken, without guidance.
  const held = config.pretrain === undefined ? 0 : 1;
  const rows = (points: number) => Math.max(1, Math.round(points * images)) * branches;
  return [
    {
      name: "text",
      networks: encoders.map((encoder): { network: RunnableNetwork; times: number } => {
        if (encoder.kind !== "clip") {
          const network = encoderNetwork(encoder, { tokens: long, layers, ...target });
          return { network, times: images };
        }
        const graph = clipGraph(encoder, { tokens: clip, target });
        return { network: { kind: "whole", name: graph.name, graph }, times: images };
      }),
    },
    {
      name: "sampling",
      networks: [
        ...network("prediction", images * both, steps + redraws + penalties),
        ...held > 0 ? network("prediction", images, held) : [],
      ],
    },
    { name: "decoder", networks: decoder("image") },
    { name: "decoder gradient", networks: decoder("product") },
    {
      name: "transformer gradient",
      networks: [
        ...inputStopGradient
          ? network("product", rows(trained - nested), 1)
          : network("product with input", rows(1), backward),
        ...nested > 0 ? network("product with input", rows(1), nested) : [],
        ...redraws > 0 ? network("product", rows(1), redraws) : [],
        ...held > 0 ? network("product", images, held) : [],
      ],
    },
  ];
}
