import { z } from "zod";
import type { RewardInfo } from "../../rewards/mod.ts";
import { type Provider, PROVIDERS } from "../../runtime/mod.ts";

/** What a reward's process is asked. The images travel beside a "score". */
export const requestSchema = z.discriminatedUnion("op", [
  z.object({
    op: z.literal("load"),
    record: z.record(z.string(), z.unknown()),
    settings: z.object({
      baseDir: z.string(),
      cacheDir: z.string(),
      provider: z.enum(PROVIDERS).exactOptional(),
      threads: z.number().int().exactOptional(),
      maxBatch: z.number().int().exactOptional(),
      maxSessionBytes: z.number().int().exactOptional(),
      packWeights: z.boolean().exactOptional(),
      warmUp: z.array(z.object({
        height: z.number().int(),
        width: z.number().int(),
        batch: z.number().int(),
      })).readonly().exactOptional(),
    }),
  }),
  z.object({
    op: z.literal("score"),
    prompts: z.array(z.string()),
    gradient: z.boolean(),
    processing: z.enum(["tensor", "reference"]),
  }),
]);

export type WorkerRequest = z.infer<typeof requestSchema>;

/** What a server gives to all its rewards. */
export interface WorkerSettings {
  /** Folder that relative paths of a record are in. */
  readonly baseDir: string;
  /** Folder in which PyTorch files are kept converted. */
  readonly cacheDir: string;
  /** ONNX Runtime execution provider. Default "cpu". */
  readonly provider?: Provider;
  /** Threads of a run. Default: all cores. */
  readonly threads?: number;
  /** Most images in one run. */
  readonly maxBatch?: number;
  /** Bytes that sessions may hold beside shared weights, above which those longest unused are freed. */
  readonly maxSessionBytes?: number;
  /** Pack the matrices of the session used most. Default true. */
  readonly packWeights?: boolean;
  /** Images whose sessions are made on load. */
  readonly warmUp?: readonly {
    readonly height: number;
    readonly width: number;
    readonly batch: number;
  }[];
}

const infoSchema = z.object({
  name: z.string(),
  kind: z.string(),
  direction: z.enum(["maximise", "minimise"]),
  /** JSON has no infinities: null where unbounded. */
  range: z.tuple([z.number().nullable(), z.number().nullable()]),
  readsPrompt: z.boolean(),
  promptTokens: z.number().int().exactOptional(),
  preprocessing: z.string(),
  fileProcessing: z.enum(["tensor", "reference"]),
  digest: z.string(),
  provider: z.string(),
  warnings: z.array(z.string()).readonly().exactOptional(),
  selfCheck: z.object({
    score: z.number(),
    gradientNorm: z.number(),
    relativeError: z.number().exactOptional(),
  }).exactOptional(),
});

/** What it answers: facts after a "load", else the tensors [scores, gradient?] and cut prompts; or an error. */
export const replySchema = z.object({
  info: infoSchema,
  /** As in `RewardResult`. */
  truncated: z.array(z.number().int()).readonly(),
  error: z.object({
    /** The input is at fault, not the reward. */
    input: z.boolean(),
    message: z.string(),
    stack: z.string(),
  }),
}).partial();

export type WorkerReply = z.infer<typeof replySchema>;

/** The facts as they travel. */
export function encodeInfo({ range: [lowest, highest], ...info }: RewardInfo): WorkerReply["info"] {
  const bound = (value: number) => Number.isFinite(value) ? value : null;
  return { ...info, range: [bound(lowest), bound(highest)] };
}

/** The facts as they were. */
export function decodeInfo(
  { range: [lowest, highest], ...info }: NonNullable<WorkerReply["info"]>,
): RewardInfo {
  return { ...info, range: [lowest ?? -Infinity, highest ?? Infinity] };
}
