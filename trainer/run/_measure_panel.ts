import type { AdaptedDenoiser } from "../model/mod.ts";
import { diversity, type PanelMeasurement, thumbnails } from "./panel.ts";
import { draw } from "./pictures.ts";
import { type ConnectedTerm, RewardMixture } from "./reward_mixture.ts";
import type { RunConfig } from "./run_config.ts";
import type { PanelEvent, RewardMetrics } from "./run_events.ts";
import type { OpenedModel } from "./training_run.ts";

/** Every image is compared with every other. */
const MOST_IMAGES = 256;

/** Draws the held-out prompts at seeds 0, 1, ... and measures the rewards of the mixture and of the panel. */
export async function measurePanel(
  { model, scheduler, latents }: OpenedModel,
  { config, denoiser, terms }: {
    readonly config: RunConfig;
    readonly denoiser: AdaptedDenoiser;
    readonly terms: readonly ConnectedTerm[];
  },
): Promise<Pick<PanelEvent, "rewards" | "diversity">> {
  const { heldOutPrompts, panel, sampler, guidance } = config;
  const prompts = heldOutPrompts.slice(0, Math.floor(MOST_IMAGES / panel.imagesPerPrompt));
  const requests = prompts.flatMap((prompt) =>
    Array.from({ length: panel.imagesPerPrompt }, (_, seed) => ({ prompt, seed }))
  );
  const mixture = new RewardMixture(terms);
  const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
  const options = { sampler, scheduler, guidance: guidance.scale, latents };
  const scores: Record<string, { values: number[]; digest: string }> = {};
  const small: Float32Array[] = [];
  for await (const { requests: part, images } of draw(networks, requests, options)) {
    const answers = await mixture.score(images, part.map(({ prompt }) => prompt));
    for (const [name, { perImage, digest }] of Object.entries(answers)) {
      (scores[name] ??= { values: [], digest }).values.push(...perImage);
    }
    small.push(...thumbnails(images));
  }
  const rewards = Object.fromEntries(
    Object.entries(scores).map(([name, { values, digest }]): [string, RewardMetrics] => [
      name,
      { mean: values.reduce((a, b) => a + b, 0) / values.length, perImage: values, digest },
    ]),
  );
  return { rewards, diversity: diversity(small) };
}

/** A measurement as `findAlarm` compares it: every reward such that greater is better. */
export function comparable(
  { step, rewards, diversity }: Pick<PanelEvent, "step" | "rewards" | "diversity">,
  terms: readonly ConnectedTerm[],
): PanelMeasurement {
  const trained: number[] = [];
  const heldOut: Record<string, number[]> = {};
  for (const { term: { name, weight }, client } of terms) {
    const sign = client.direction === "minimise" ? -1 : 1;
    const better = (rewards[name]?.perImage ?? []).map((s) => sign * s);
    if (weight === 0) heldOut[name] = better;
    else better.forEach((s, i) => trained[i] = (trained[i] ?? 0) + weight * s);
  }
  return { step, trained, heldOut, diversity };
}
