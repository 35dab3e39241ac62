import { join } from "node:path";
import { z } from "zod";
import { type Summary, wilson } from "../../../../base/mod.ts";
import { loadReward, parseRewardConfig, type Reward } from "../../../../rewards/mod.ts";
import { openEngine } from "../../../../runtime/mod.ts";
import {
  concatBatch,
  encodePng,
  type Float32Tensor,
  makeSampler,
  openPipeline,
  readRunPipeline,
} from "../../../../trainer/mod.ts";
import { UsageError } from "../../command.ts";
import { Progress } from "../../progress.ts";
import { readPrompts } from "../read_prompts.ts";
import type { StudyFolder } from "../study_folder.ts";
import type { CompositionStudy } from "../study_schema.ts";
import { drawReplaced, type Replaced, type ReplacedRequest } from "./draw_replaced.ts";
import { layoutDistance } from "./layout.ts";

const pointSchema = z.object({
  model: z.string(),
  what: z.enum(["prompt", "noise"]),
  /** Steps that were done when it was replaced; -1: even the latents that sampling starts from. */
  from: z.int(),
  steps: z.int(),
  pictures: z.int(),
  /** Of a prompt: pictures that CLIP finds nearer to the other prompt. */
  other: z.number().optional(),
  /** Mean distance of layouts from the picture without replacement. */
  distance: z.number(),
});

/** Pictures whose prompt or noise was replaced from a step on. */
export type CompositionPoint = z.infer<typeof pointSchema>;

/** Most pictures that are drawn at once. */
const BATCH = 8;
/** Pictures of each point that a page shows. */
const SHOWN = 6;

/** Draws and measures every point that is not there yet. */
export async function runComposition(
  study: CompositionStudy,
  { folder, models, signal }: {
    readonly folder: StudyFolder;
    /** Folder of models and prompts. */
    readonly models: string;
    readonly signal: AbortSignal;
  },
): Promise<readonly CompositionPoint[]> {
  const prompts = await readPrompts(join(models, study.prompts), 2);
  const requests = requestsOf(prompts, study.seeds);
  const reward = await loadReward(parseRewardConfig(study.reward), { baseDir: models });
  const progress = new Progress();
  const points: CompositionPoint[] = [];
  const places = placesOf(study.sampler.steps);
  let todo = 0;
  try {
    for (const [name, model] of Object.entries(study.models)) {
      const drawing = await openDrawing(join(models, model), study);
      try {
        todo += places.length * (drawing.isNoisy ? 2 : 1) + (drawing.isNoisy ? 1 : 0);
        for (const what of drawing.isNoisy ? ["prompt", "noise"] as const : ["prompt"] as const) {
          let own: Float32Tensor | undefined;
          const start = what === "noise" ? [-1] : [];
          for (const from of [...start, ...places]) {
            const file = `results/${name}-${what}-${from}.json`.replaceAll(/[^\w./-]+/g, "-");
            const known = await folder.readJson(file, pointSchema);
            const isSame = known?.pictures === requests.length &&
              known.steps === study.sampler.steps;
            if (known !== undefined && isSame) points.push(known);
            else {
              own ??= await drawing.draw(requests, { what, from: study.sampler.steps, signal });
              const images = await drawing.draw(requests, { what, from, signal });
              const other = what === "prompt"
                ? await shareOfOther(reward, { images, requests, signal })
                : undefined;
              const point: CompositionPoint = {
                ...{
                  model: name,
                  what,
                  from,
                  steps: study.sampler.steps,
                  pictures: requests.length,
                },
                ...(other !== undefined && { other }),
                distance: layoutDistance(own, images),
              };
              for (let i = 0; i < Math.min(SHOWN, requests.length); i++) {
                await folder.writeFile(pictureFile(point, i), await encodePng(images, i));
              }
              await folder.writeFile(file, `${JSON.stringify(point)}\n`);
              points.push(point);
            }
            progress.update({
              done: points.length,
              total: todo,
              note: `${name}, ${what} from step ${from} on`,
            });
          }
        }
      } finally {
        await drawing.close();
      }
    }
  } finally {
    progress.end();
    await reward.dispose();
  }
  return points;
}

/** Where a study keeps the picture `i` of a point. */
export function pictureFile({ model, what, from }: CompositionPoint, i: number): string {
  return `pictures/${model}-${what}-${from}/${i}.png`.replaceAll(/[^\w./-]+/g, "-");
}

/** How surely it is still the replacement that shows, of 0 to 1 and its interval: of prompts by CLIP, of noise by layout. */
export function changed(
  point: CompositionPoint,
  points: readonly CompositionPoint[],
): Summary {
  if (point.other !== undefined) {
    const { share, low, high } = wilson(point.other * point.pictures, point.pictures);
    return { mean: share, low, high };
  }
  const whole = points.find((p) => p.model === point.model && p.what === "noise" && p.from === -1);
  const share = point.distance / (whole?.distance ?? NaN);
  return { mean: share, low: share, high: share };
}

/** Steps at which something is replaced: dense where sampling begins. */
function placesOf(T: number): readonly number[] {
  const shares = [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];
  return [...new Set(shares.map((share) => Math.round(share * T)))];
}

/** Each prompt at each seed, replaced by the next prompt and by a seed of its own. */
function requestsOf(
  prompts: readonly string[],
  seeds: readonly number[],
): readonly ReplacedRequest[] {
  const last = Math.max(...seeds);
  return prompts.flatMap((prompt, i) =>
    seeds.map((seed) => ({
      ...{ prompt, seed, otherSeed: last + 1 + seed },
      otherPrompt: prompts[(i + 1) % prompts.length] ?? "",
    }))
  );
}

/** Share of the images that are nearer to the other prompt than to the one that they began with. */
async function shareOfOther(
  reward: Reward,
  { images, requests, signal }: {
    readonly images: Float32Tensor;
    readonly requests: readonly ReplacedRequest[];
    readonly signal: AbortSignal;
  },
): Promise<number> {
  const scores = async (prompts: readonly string[]) =>
    (await reward.score(images, prompts, { signal })).scores;
  const own = await scores(requests.map(({ prompt }) => prompt));
  const other = await scores(requests.map(({ otherPrompt }) => otherPrompt));
  return other.filter((score, i) => score > (own[i] ?? NaN)).length / requests.length;
}

/** Opens a pipeline in a process of its own to draw with. */
async function openDrawing(folder: string, { sampler: options, guidance }: CompositionStudy) {
  const read = await readRunPipeline(folder);
  const { sampleSize } = read;
  if (sampleSize === undefined) {
    throw new UsageError(`${folder} does not say the size of its latents`);
  }
  const latents = { channels: read.channels, ...sampleSize };
  const { isFlow, samplerKind } = read.defaults;
  // A sampler for U-Nets is none for a flow.
  const kind = isFlow ? samplerKind : options.kind ?? samplerKind;
  const eta = kind === "ddim" ? { eta: options.eta ?? 0 } : {};
  const sampler = makeSampler({ kind, steps: options.steps, ...eta }, read.scheduler(sampleSize));
  const engine = await openEngine({ isolation: "child", name: folder });
  try {
    const model = openPipeline(read.pipeline, engine, { lora: [] });
    const denoiser = await model.adapt({});
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    return {
      isNoisy: sampler.steps.some(({ next }) => next.noise !== 0),
      async draw(
        requests: readonly ReplacedRequest[],
        call: { readonly what: Replaced; readonly from: number; readonly signal: AbortSignal },
      ): Promise<Float32Tensor> {
        const parts: Float32Tensor[] = [];
        for (let at = 0; at < requests.length; at += BATCH) {
          const part = requests.slice(at, at + BATCH);
          parts.push(await drawReplaced(networks, part, { ...call, sampler, guidance, latents }));
        }
        return concatBatch(parts);
      },
      close: () => engine.close(),
    };
  } catch (error) {
    await engine.close();
    throw error;
  }
}
