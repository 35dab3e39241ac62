import type { PublishedPipeline } from "../../../models/published/mod.ts";

/** What depends on the model in a first run of DRTune; sampler, guidance and size are the model's own where not given. */
export interface RunDefaults {
  /** Denoising steps T, of which K are trained, and the early stop's m. */
  readonly steps: number;
  readonly k: number;
  readonly m: number;
  /** Height and width of the latents; absent: what the model was trained at. */
  readonly latents?: number;
}

/** Half of the steps of the DRTune paper and all of FlowBP's comparison with it. */
const USUAL: RunDefaults = { steps: 25, k: 3, m: 10 };

/** 512x512 pixels of large models, which were trained at 1024x1024; and few steps where they were distilled to few. */
const OF_PUBLISHED: Readonly<Partial<Record<PublishedPipeline, Partial<RunDefaults>>>> = {
  sdxl: { latents: 64 },
  "sd35-medium": { latents: 64 },
  "flux-schnell": { steps: 4, k: 2, m: 2, latents: 64 },
  "flux-dev": { latents: 64 },
  // Its latents are packed two by two.
  "klein-4b": { latents: 32 },
  "z-image": { steps: 8, k: 3, m: 3, latents: 64 },
};

/** What a first run of a model is written with. */
export function runDefaults(published: PublishedPipeline | undefined): RunDefaults {
  return { ...USUAL, ...(published === undefined ? {} : OF_PUBLISHED[published]) };
}
