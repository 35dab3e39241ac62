import { z } from "zod";
import { RUNTIME_ERROR_CODES } from "./errors.ts";
import { PROVIDERS } from "./session.ts";

const sessionOptionsSchema = z.object({
  provider: z.enum(PROVIDERS),
  intraOpNumThreads: z.number().int().nonnegative(),
  allowSpinning: z.boolean(),
  graphOptimizationLevel: z.enum(["disabled", "basic", "extended", "all"]),
  prepackWeights: z.boolean(),
  keepMemory: z.boolean(),
  foldConstants: z.boolean(),
}).partial();

const sessionId = z.number().int();

/** A place in the process: the number that its engine gave it, and its name. */
const place = z.object({ id: z.number().int(), name: z.string() });

/** What an engine asks of its process. Tensors travel beside the message, in the order they are named here. */
export const requestSchema = z.discriminatedUnion("op", [
  /** With the model's bytes as a uint8 tensor. */
  z.object({
    op: z.literal("load"),
    name: z.string().optional(),
    weightsRoot: z.string().optional(),
    options: sessionOptionsSchema,
  }),
  z.object({
    op: z.literal("run"),
    session: sessionId,
    /** Inputs fed with the tensors sent, and inputs fed with kept ones. */
    sent: z.array(z.string()),
    kept: z.array(z.tuple([z.string(), place])),
    /** Absent: all outputs that are not kept. */
    fetches: z.array(z.string()).optional(),
    /** Outputs to keep, and where. */
    keep: z.array(z.tuple([z.string(), place])),
  }),
  z.object({ op: z.literal("dispose"), session: sessionId }),
  z.object({ op: z.literal("keep"), place }),
  z.object({ op: z.literal("forget"), places: z.array(place) }),
  z.object({ op: z.literal("cpu") }),
  /** Answered once the process is up. */
  z.object({ op: z.literal("ping") }),
]);

export type Request = z.infer<typeof requestSchema>;

/** A place as messages name it. */
export type SentPlace = z.infer<typeof place>;

/** The answer to "load". */
export const loadedSchema = z.object({
  session: sessionId,
  inputNames: z.array(z.string()),
  outputNames: z.array(z.string()),
});

/**
 * An answer: the names of the tensors beside it, the facts of a loaded session, CPU seconds used, an error, or nothing.
 */
export const replySchema = z.object({
  loaded: loadedSchema,
  names: z.array(z.string()),
  cpuSeconds: z.number(),
  error: z.object({ code: z.enum(RUNTIME_ERROR_CODES), message: z.string() }),
}).partial();

export type Reply = z.infer<typeof replySchema>;
