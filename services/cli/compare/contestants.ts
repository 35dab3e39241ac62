import { readdir, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import type { RunConfig, TrainerService } from "../../../proto/mod.ts";
import { PRECISIONS } from "../../../compile/mod.ts";
import { SAMPLER_KINDS, SIGMA_RANGES } from "../../../trainer/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import { UsageError } from "../command.ts";
import { localImages } from "../sample/local_images.ts";
import type { ListedPrompt } from "./prompt_list.ts";

/** A picture that is asked for. */
export interface Wanted {
  readonly prompt: string;
  readonly seed: number;
}

/** One side of a comparison: something that makes pictures of prompts. */
export type Contestant =
  | { readonly kind: "pictures"; readonly name: string; readonly folder: string }
  | {
    readonly kind: "run";
    readonly name: string;
    readonly runId: string;
    /** 0 without LoRA; absent the newest checkpoint. */
    readonly step?: number;
  }
  | {
    readonly kind: "model";
    readonly name: string;
    readonly model: string;
    /** A LoRA file or folder. */
    readonly lora?: string;
  };

const PICTURES = new Set([".png", ".jpg", ".jpeg", ".webp"]);

/**
 * What a word of the command line stands for: a folder of pictures, a pipeline's folder, a LoRA on the pipeline that is
 * named beside it, a pipeline in a single file, or the id of a run, with "@STEP" for one of its checkpoints.
 */
export async function contestantOf(
  word: string,
  { model }: { readonly model: string | undefined },
): Promise<Contestant> {
  const info = await stat(word).catch(() => undefined);
  if (info === undefined) return runOf(word);
  if (info.isDirectory()) {
    const names = await readdir(word, { recursive: true });
    if (names.includes("model_index.json")) return { kind: "model", name: word, model: word };
    if (names.some((name) => PICTURES.has(extname(name).toLowerCase()))) {
      return { kind: "pictures", name: word, folder: word };
    }
  }
  if (model !== undefined) return { kind: "model", name: word, model, lora: word };
  if (info.isFile()) return { kind: "model", name: word, model: word };
  throw new UsageError(
    `${word} holds neither pictures nor a model: expected one of these, a run, or with --model a LoRA`,
  );
}

function runOf(word: string): Contestant {
  const [, runId = "", step] = /^([a-z0-9][a-z0-9._-]{0,63})(?:@(\d+))?$/.exec(word) ?? [];
  if (runId === "") throw new UsageError(`${word} is no file, no folder and no run's name`);
  return { kind: "run", name: word, runId, ...(step !== undefined && { step: Number(step) }) };
}

/** The same without what was trained, to compare with; undefined of pictures and of a model without LoRA. */
export function withoutTraining(contestant: Contestant): Contestant | undefined {
  switch (contestant.kind) {
    case "run":
      return { kind: "run", name: `${contestant.runId}@0`, runId: contestant.runId, step: 0 };
    case "model": {
      const { model, lora } = contestant;
      return lora === undefined ? undefined : { kind: "model", name: model, model };
    }
    case "pictures":
      return undefined;
  }
}

/** How models in folders draw: as a run on the other side does, or by themselves. */
export interface DrawSettings {
  readonly trainer: () => Promise<GrpcClient<typeof TrainerService>>;
  readonly config: RunConfig | undefined;
  readonly steps: number;
  readonly onRemark: (text: string) => void;
  readonly signal: AbortSignal;
}

/** Most pictures of one call. */
const PART = 1024;

/** Draws pictures, in the order in which they are wanted: PNG files' bytes. Not of a folder of pictures. */
export async function* drawn(
  contestant: Exclude<Contestant, { kind: "pictures" }>,
  wanted: readonly Wanted[],
  { trainer, config, steps, onRemark, signal }: DrawSettings,
): AsyncGenerator<Uint8Array> {
  if (contestant.kind === "model") {
    const sampler = config?.sampler;
    const images = localImages(wanted, {
      ...{ model: contestant.model, lora: contestant.lora, onRemark, signal },
      loraScale: config?.lora?.sampleScale ?? 1,
      sampler: {
        kind: SAMPLER_KINDS.find((known) => known === sampler?.kind),
        steps: sampler?.steps ?? steps,
        eta: sampler?.eta ?? 0,
        karrasSigmas: sampler?.karrasSigmas,
        sigmas: SIGMA_RANGES.find((known) => known === sampler?.sigmas),
      },
      guidance: config?.guidance?.scale,
      // Equal seeds are equal noise at the same size only.
      ...{ latentHeight: config?.latentHeight, latentWidth: config?.latentWidth },
      precision: PRECISIONS.find((known) => known === config?.precision),
    });
    for await (const { png } of images) yield png;
    return;
  }
  const client = await trainer();
  const { runId, step } = contestant;
  // One call takes a first seed for all its prompts.
  const bySeed = Map.groupBy(wanted.keys(), (i) => wanted[i]?.seed ?? 0);
  const images: Uint8Array[] = [];
  for (const [seed, places] of bySeed) {
    for (let at = 0; at < places.length; at += PART) {
      const part = places.slice(at, at + PART);
      const prompts = part.map((i) => wanted[i]?.prompt ?? "");
      const request = { runId, seed, prompts, ...(step !== undefined && { step }) };
      let n = 0;
      for await (const { png, remark } of client.sample(request, { signal })) {
        if (remark !== "") onRemark(remark);
        images[part[n++] ?? 0] = png;
      }
    }
  }
  yield* images;
}

/** Files of a folder of pictures by their paths without an ending, as "photo/00000" or "cat". */
export async function pictureFiles(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = (await readdir(folder, { recursive: true })).sort();
  const pictures = names.filter((name) => PICTURES.has(extname(name).toLowerCase()));
  return new Map(pictures.map((name) => {
    const key = name.slice(0, -extname(name).length).replaceAll("\\", "/");
    return [key, join(folder, name)];
  }));
}

/**
 * The file of a prompt in a folder of pictures: the one of its own name, or by category as HPS v2's benchmark names them,
 * "photo/00012".
 */
export function pictureOf(
  files: ReadonlyMap<string, string>,
  { file, category, index }: Pick<ListedPrompt, "file" | "category" | "index">,
): string | undefined {
  if (file !== undefined) return files.get(file);
  const number = String(index).padStart(5, "0");
  return files.get(`${category}/${number}`) ?? files.get(`${category}/${index}`);
}
