import { jobSpans } from "./_job_spans.ts";
import {
  decodeImage,
  type Images,
  type ImageSize,
  readImageSize,
  type RewardInfo,
  RewardInputError,
} from "../../rewards/mod.ts";
import { type ErrorMap, StatusError } from "../rpc/mod.ts";
import { inChunks } from "./_in_chunks.ts";
import { checkShape, decodeTensor, type WireImages } from "./_wire_tensor.ts";
import type { EncodedImages, Processing, ScoredJob } from "./batcher.ts";
import type { Limits } from "./limits.ts";
import type { RewardHost } from "./reward_host.ts";

/** Images as they came: pixels, or a PNG, JPEG or WebP file. */
export type ImageInput = { readonly tensor: WireImages } | { readonly file: Uint8Array };

/** A request, whatever protocol it came by. */
export interface ScoreRequest {
  /** Name of the reward; empty for the host's default. */
  readonly reward: string;
  readonly images: readonly ImageInput[];
  /** One per image, or one for all. */
  readonly prompts: readonly string[];
  readonly gradient: boolean;
  /** Default: the reward's own for files and "tensor" for pixels; with a gradient always "tensor". */
  readonly processing?: Processing;
}

/** What came of a request. */
export interface ScoreResult {
  /** One per image; finite. */
  readonly scores: readonly number[];
  /** One per entry of the request's images, in its shape ([1, 3, H, W] for a file); finite. Set when asked for. */
  readonly gradients: readonly Images[];
  /** Images whose prompt was cut; see `RewardResult`. */
  readonly truncated: readonly number[];
  readonly info: RewardInfo;
  readonly queueSeconds: number;
  readonly computeSeconds: number;
}

/** What a request is scored with. */
export interface ScoreContext {
  readonly host: RewardHost;
  readonly limits: Limits;
  readonly signal: AbortSignal;
}

/**
 * Checks a request from its cheapest claim to its last pixel, and scores it. Throws `StatusError` naming the field,
 * what was found and what was expected.
 */
export async function scoreImages(
  { reward: name, images, prompts, gradient, processing }: ScoreRequest,
  { host, limits, signal }: ScoreContext,
): Promise<ScoreResult> {
  const reward = host.get(name);
  const sources = await measure(images, limits);
  const total = sources.reduce((sum, { count }) => sum + count, 0);
  const texts = checkPrompts(prompts, { total, reward: reward.info, limits });

  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const natural = (isFile: boolean) => isFile ? reward.info.fileProcessing : "tensor";
  let at = 0;
  // The queue decodes: many small files can become more pixels than there is memory for.
  const jobs = sources.map(async ({ count, isFile, ...images }) => {
    const start = at;
    const prompts = texts.slice(start, at += count);
    const job = { images, prompts, gradient };
    const scored = await reward.score(
      { ...job, processing: gradient ? "tensor" : processing ?? natural(isFile) },
      either,
    );
    jobSpans(scored);
    return { ...scored, truncated: scored.truncated.map((i) => start + i) };
  });
  let scored: ScoredJob[];
  try {
    scored = await Promise.all(jobs);
  } catch (error) {
    failed.abort(error);
    throw error;
  }
  const [first, ...rest] = scored;
  if (!first) throw new RangeError("A request has at least one image");
  const { info } = first;
  if (rest.some((job) => job.info.digest !== info.digest)) {
    throw new StatusError("UNAVAILABLE", `Reward ${info.name} was replaced meanwhile, try again`);
  }
  const scores = scored.flatMap((job) => [...job.scores]);
  const bad = scores.findIndex((score) => !Number.isFinite(score));
  if (bad >= 0) throw faulty(`Reward ${info.name} scores image ${bad} ${scores[bad]}`);
  const gradients = scored.flatMap((job) => job.gradient ?? []);
  for (const { data } of gradients) await assertFinite(data, info.name);
  return {
    scores,
    gradients,
    truncated: scored.flatMap((job) => job.truncated),
    info,
    queueSeconds: Math.max(...scored.map((job) => job.queueSeconds)),
    computeSeconds: Math.max(...scored.map((job) => job.computeSeconds)),
  };
}

/** A domain error of a reward as a status. */
export const rewardErrors: ErrorMap = (error) =>
  error instanceof RewardInputError
    ? new StatusError("INVALID_ARGUMENT", error.message, { cause: error })
    : undefined;

/** One entry of a request: how many images it is, and how to get them. */
interface Source extends EncodedImages {
  readonly count: number;
  readonly isFile: boolean;
}

/** Checks what the images claim to be against the limits. Decodes nothing. */
async function measure(images: readonly ImageInput[], limits: Limits): Promise<Source[]> {
  if (images.length === 0) throw new StatusError("INVALID_ARGUMENT", "Request has no image");
  atMost(limits.maxImages, images.length, "Request has", "images");
  let total = 0;
  let pixels = 0;
  const sources: Source[] = [];
  for (const [i, image] of images.entries()) {
    const where = images.length === 1 ? "Image" : `Image ${i}`;
    const { height, width, ...source } = "tensor" in image
      ? tensorSource(image.tensor, where)
      : await fileSource(image.file, where);
    atMost(limits.maxSide, Math.max(height, width), `${where} has a side of`, "pixels");
    atMost(limits.maxImages, total += source.count, "Request has", "images");
    atMost(limits.maxPixels, pixels += source.count * height * width, "Request has", "pixels");
    sources.push(source);
  }
  return sources;
}

function tensorSource(tensor: WireImages, where: string): Source & ImageSize {
  const [count, , height, width] = checkShape(tensor, where);
  const shape = [count, 3, height, width];
  return { count, height, width, shape, isFile: false, decode: () => decodeTensor(tensor, where) };
}

async function fileSource(file: Uint8Array, where: string): Promise<Source & ImageSize> {
  const size = await readImageSize(file, where);
  const maxPixels = size.height * size.width;
  const decode = () => decodeImage(file, { name: where, maxPixels });
  return { count: 1, ...size, shape: [1, 3, size.height, size.width], isFile: true, decode };
}

function checkPrompts(
  prompts: readonly string[],
  { total, reward: { name, readsPrompt }, limits }: {
    readonly total: number;
    readonly reward: RewardInfo;
    readonly limits: Limits;
  },
): readonly string[] {
  if (!readsPrompt) return Array<string>(total).fill("");
  if (prompts.length !== total && prompts.length !== 1) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `Request has ${prompts.length} prompts for ${total} images; ` +
        `reward ${name} reads the prompt and needs one for each, or one for all`,
    );
  }
  for (const [i, prompt] of prompts.entries()) {
    if (prompt.trim() === "") {
      throw new StatusError(
        "INVALID_ARGUMENT",
        `Prompt ${i} is empty; reward ${name} reads the prompt`,
      );
    }
    atMost(limits.maxPromptLength, prompt.length, `Prompt ${i} has`, "characters");
  }
  const [only = ""] = prompts;
  return prompts.length === total ? prompts : Array<string>(total).fill(only);
}

function atMost(limit: number, found: number, what: string, unit: string): void {
  if (found <= limit) return;
  throw new StatusError("INVALID_ARGUMENT", `${what} ${found} ${unit}, at most ${limit} are taken`);
}

/** A fault of the reward that its callers may know of. */
function faulty(message: string): StatusError {
  return new StatusError("INTERNAL", message);
}

async function assertFinite(values: Float32Array, name: string): Promise<void> {
  await inChunks(values.length, (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += 0 * (values[i] ?? 0);
    if (sum !== 0) throw faulty(`Reward ${name} gives a gradient that is not finite`);
  });
}
