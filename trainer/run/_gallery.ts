import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { onDisk } from "./_disk.ts";
import type { AdaptedDenoiser } from "../model/mod.ts";
import type { RewardScores } from "../batch/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import type { OpenedModel } from "./opened_model.ts";
import { diversity, thumbnails } from "./panel.ts";
import { runPictureNote } from "./picture_note.ts";
import { draw, encodePng, type Request } from "./pictures.ts";
import type { RunConfig } from "./run_config.ts";
import type { PanelEvent, RewardMetrics, SampleReference } from "./run_events.ts";

/** Sample pictures drawn each time. */
const SAMPLE_LIMIT = 8;
/** Images of a panel: every one is compared with every other. */
const MOST_IMAGES = 256;

/** Scores a batch of images [B, 3, H, W], by the rewards' names. */
export type Scoring = (
  images: Float32Tensor,
  prompts: readonly string[],
) => Promise<Readonly<Record<string, RewardScores>>>;

/** The held-out prompts that pictures and the panel show. */
export function shownPrompts(
  { heldOutPrompts, panel, sampleEvery }: Pick<
    RunConfig,
    "heldOutPrompts" | "panel" | "sampleEvery"
  >,
): readonly string[] {
  const measured = panel.every > 0 ? Math.floor(MOST_IMAGES / panel.imagesPerPrompt) : 0;
  return heldOutPrompts.slice(0, Math.max(measured, sampleEvery > 0 ? SAMPLE_LIMIT : 0));
}

/** Draws what a run shows of itself, and what it measures itself on: its held-out prompts at fixed seeds. */
export class Gallery {
  readonly #opened: OpenedModel;
  readonly #config: RunConfig;
  readonly #folder: string;

  /** @param folder the run's */
  constructor(
    opened: OpenedModel,
    { config, folder }: { readonly config: RunConfig; readonly folder: string },
  ) {
    this.#opened = opened;
    this.#config = config;
    this.#folder = folder;
  }

  /** Draws the held-out prompts with a LoRA into the run's folder, each with its scores. */
  async pictures(
    parameters: Parameters,
    { step, score }: { readonly step: number; readonly score: Scoring },
  ): Promise<SampleReference[]> {
    const { heldOutPrompts, lora } = this.#config;
    const path = `samples/step-${String(step).padStart(6, "0")}`;
    const folder = join(this.#folder, path);
    await onDisk("pictures.folder", () => mkdir(folder, { recursive: true }));
    const requests = heldOutPrompts.slice(0, SAMPLE_LIMIT)
      .map((prompt, seed) => ({ prompt, seed }));
    const denoiser = await this.#opened.model.adapt(parameters, { scale: lora.sampleScale });
    const out: SampleReference[] = [];
    try {
      for await (const { requests: part, images } of this.#drawn(requests, denoiser)) {
        const scores = await score(images, part.map(({ prompt }) => prompt));
        for (const [i, request] of part.entries()) {
          const file = `${path}/${out.length}.png`;
          const note = runPictureNote(this.#config, {
            request,
            images,
            lora: { name: basename(this.#folder), scale: lora.sampleScale },
          });
          const png = await encodePng(images, i, note);
          await onDisk(
            "pictures.write",
            (part = 1) => writeFile(join(this.#folder, file), png.subarray(0, part * png.length)),
          );
          const rewards = Object.entries(scores).flatMap(([name, { perImage }]) => {
            const found = perImage[i];
            return found === undefined ? [] : [[name, found]];
          });
          out.push({ ...request, path: file, rewards: Object.fromEntries(rewards) });
        }
      }
    } finally {
      await denoiser.release().catch(() => {});
    }
    return out;
  }

  /** Draws the panel's images at seeds 0, 1, ... of each held-out prompt and measures rewards and diversity. */
  async measure(
    denoiser: AdaptedDenoiser,
    score: Scoring,
  ): Promise<Pick<PanelEvent, "rewards" | "diversity">> {
    const { heldOutPrompts, panel } = this.#config;
    const prompts = heldOutPrompts.slice(0, Math.floor(MOST_IMAGES / panel.imagesPerPrompt));
    const requests = prompts.flatMap((prompt) =>
      Array.from({ length: panel.imagesPerPrompt }, (_, seed) => ({ prompt, seed }))
    );
    const scores: Record<string, { values: number[]; digest: string }> = {};
    const small: Float32Array[] = [];
    for await (const { requests: part, images } of this.#drawn(requests, denoiser)) {
      const answers = await score(images, part.map(({ prompt }) => prompt));
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

  #drawn(requests: readonly Request[], denoiser: AdaptedDenoiser) {
    const { model, scheduler, latents } = this.#opened;
    const { sampler, guidance } = this.#config;
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    return draw(networks, requests, { sampler, scheduler, guidance: guidance.scale, latents });
  }
}
