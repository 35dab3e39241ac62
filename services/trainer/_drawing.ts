import { z } from "zod";
import { raceAbort } from "../../base/mod.ts";
import type { SampleRequest } from "../../proto/mod.ts";
import {
  draw,
  FieldError,
  loraOf,
  newestCheckpoint,
  type OpenedModel,
  type Parameters,
  parseConfig,
  promptSchema,
  readCheckpoint,
  type RunConfig,
  type RunDependencies,
  type TrainingRun,
  withSampling,
} from "../../trainer/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import type { Turns } from "./_turns.ts";
import { compact, plain } from "./wire_config.ts";

const MAX_IMAGES = 4096;

const drawnSchema = z.strictObject({ prompts: z.array(promptSchema) });

/** The images that a request asks for. Throws `FieldError`. */
export function requestsOf(
  given: readonly string[],
  { seed = 0, imagesPerPrompt = 1 }: {
    readonly seed?: number | undefined;
    readonly imagesPerPrompt?: number | undefined;
  },
) {
  const { prompts } = parseConfig(drawnSchema, { prompts: given });
  if (imagesPerPrompt < 1) {
    throw new FieldError("imagesPerPrompt", `is ${imagesPerPrompt}, expected 1 or more`);
  }
  const last = seed + imagesPerPrompt - 1;
  if (last >= 2 ** 32) throw new FieldError("seed", `comes to ${last}, expected less than 2^32`);
  if (prompts.length * imagesPerPrompt > MAX_IMAGES) {
    throw new FieldError(
      "imagesPerPrompt",
      `asks for ${prompts.length * imagesPerPrompt} images, expected at most ${MAX_IMAGES}`,
    );
  }
  return prompts.flatMap((prompt) =>
    Array.from({ length: imagesPerPrompt }, (_, i) => ({ prompt, seed: seed + i }))
  );
}

/** A run's configuration with a request's own size, sampler and guidance. */
export function sampling(
  config: RunConfig,
  { sampler, guidanceScale, latentHeight, latentWidth }: SampleRequest,
): RunConfig {
  return withSampling(
    config,
    compact({
      sampler: sampler && compact({ ...plain(sampler), kind: sampler.kind || undefined }),
      guidanceScale,
      latentHeight,
      latentWidth,
    }),
  );
}

/** The factor that a run's LoRA is drawn with: what the run chose for this checkpoint, or as configured. */
export function loraScaleOf({ config, log }: TrainingRun, step: number | undefined): number {
  const { choice } = log;
  return choice !== undefined && (step ?? choice.chosen) === choice.chosen
    ? choice.loraScale
    : config.lora.sampleScale;
}

/**
 * A run's checkpoint of a step, or the one it chose, or its newest, for which a run that is stopping is waited for: it is writing it. Throws
 * `StatusError`, or the signal's reason.
 */
export async function checkpointOf(
  run: TrainingRun,
  { step, signal }: { readonly step: number | undefined; readonly signal: AbortSignal },
) {
  const { checkpoints } = run.folder;
  if (step === undefined) {
    if (run.state === "stopping") await raceAbort(run.executed, signal);
    const chosen = run.log.choice?.chosen;
    if (chosen !== undefined && run.checkpoints.includes(chosen)) {
      return await readCheckpoint(checkpoints, chosen);
    }
    const found = await newestCheckpoint(checkpoints);
    if (found !== undefined) return found.checkpoint;
    const advice = run.ended
      ? `it ended before its first step (${run.state})`
      : `\`drtune save ${run.id}\` (SaveRun) writes one at its next step`;
    throw new StatusError(
      "FAILED_PRECONDITION",
      `Run "${run.id}" has no checkpoint yet: ${advice}`,
    );
  }
  if (run.checkpoints.includes(step)) return await readCheckpoint(checkpoints, step);
  throw new StatusError(
    "NOT_FOUND",
    `Run "${run.id}" has no checkpoint of step ${step}, only ${
      run.checkpoints.join(", ") || "none"
    }`,
  );
}

/** The LoRA of a step, or the newest. */
export async function weights(
  run: TrainingRun,
  of: { readonly step: number | undefined; readonly signal: AbortSignal },
): Promise<Parameters> {
  return loraOf(await checkpointOf(run, of));
}

/**
 * Uses a model in its turn and releases it, also where the caller goes while it is opened. The turn is over when the
 * model is: of callers who come and go each would open one more.
 */
export async function* withModel<T>(
  dependencies: RunDependencies,
  { config, signal, turns }: {
    readonly config: RunConfig;
    readonly signal: AbortSignal;
    readonly turns: Turns;
  },
  use: (opened: OpenedModel) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const turn = await turns.take(signal);
  const opening = Promise.resolve().then(() => dependencies.openModel(config));
  try {
    yield* use(await raceAbort(opening, signal));
  } finally {
    const released = opening.then((opened) => opened.release())
      .finally(() => turn[Symbol.dispose]());
    // The caller does not wait for one that is still being opened.
    if (signal.aborted) released.catch(() => {});
    else await released;
  }
}

/** Draws with a LoRA, or without. */
export async function* drawWith(
  { model, scheduler, latents }: OpenedModel,
  requests: DrawRequests,
  { config, parameters, loraScale, signal }: {
    readonly config: RunConfig;
    /** `undefined`: the model without LoRA. */
    readonly parameters: Parameters | undefined;
    readonly loraScale: number;
    readonly signal: AbortSignal;
  },
) {
  const adapting = model.adapt(
    parameters ?? model.initialParameters(0),
    { scale: parameters === undefined ? 0 : loraScale },
  );
  const denoiser = await raceAbort(adapting, signal);
  try {
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    const drawn = draw(networks, requests, {
      sampler: config.sampler,
      scheduler,
      guidance: config.guidance.scale,
      latents,
      signal,
    });
    for (;;) {
      // What is being computed ends with the model, which a caller who goes releases.
      const next = await raceAbort(drawn.next(), signal);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    if (!signal.aborted) await denoiser.release();
  }
}

type DrawRequests = readonly { readonly prompt: string; readonly seed: number }[];
