import type { FlowPipeline } from "../../models/flow/mod.ts";

/** Layers of Qwen3 that FLUX.2 reads, 0 the embeddings. */
const FLUX2_LAYERS = [9, 18, 27];

/** Layers of its text encoder whose states a pipeline reads: of Qwen3 by family; none are named of other encoders. */
export function encoderLayers(
  { kind, encoders }: FlowPipeline,
  /** Those of FLUX.2, where they are others. */
  given: readonly number[] = FLUX2_LAYERS,
): readonly number[] {
  const last = encoders.at(-1);
  if (last?.kind !== "qwen3") return [];
  return kind === "zimage" ? [last.part.config.layers - 1] : given;
}
