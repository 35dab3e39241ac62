import { InputError } from "../../base/mod.ts";
import { createHash } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { z } from "zod";
import {
  type EvaluateRunResponseSchema,
  LoraFormat,
  LoraPrecision,
  type PanelReward,
  type RewardTerm as WireTerm,
  type SampleRequest,
  type SampleResponseSchema,
  TrainerService,
} from "../../proto/mod.ts";
import type { Tensor } from "../../autodiff/mod.ts";
import { raceAbort } from "../../base/mod.ts";
import { toDiffusersLora, toKohyaLora } from "../../models/lora/mod.ts";
import { encodeSafetensors, float32ToFloat16, toFloat32 } from "../../models/weights/mod.ts";
import {
  CheckpointError,
  DamagedCheckpointError,
  draw,
  encodePng,
  FieldError,
  MissingFileError,
  newestCheckpoint,
  type OpenedModel,
  type Parameters,
  parseConfig,
  promptSchema,
  readCheckpoint,
  RewardMixture,
  rewardMixtureSchema,
  RewardRefusedError,
  type RewardTerm,
  RewardUnavailableError,
  type RunConfig,
  RunConflictError,
  type RunDependencies,
  RunStateError,
  type RunStore,
  TooManyRunsError,
  trainedMixtureSchema,
  type TrainingRun,
  UnknownRunError,
  withSampling,
} from "../../trainer/mod.ts";
import {
  type GrpcService,
  grpcService,
  type Handlers,
  StatusError,
  type StatusName,
} from "../rpc/mod.ts";
import { Turns } from "./_turns.ts";
import { connectAll } from "./reward_client.ts";
import { fillInEndpoints } from "./fill_in_endpoints.ts";
import { pairedSummary } from "./paired_summary.ts";
import {
  compact,
  fromWireConfig,
  fromWireTerm,
  plain,
  promptsOf,
  toWireTerm,
} from "./wire_config.ts";
import { toWireEvent, toWireRun } from "./wire_events.ts";

/** What the handlers work with. */
export interface TrainerOptions {
  readonly store: RunStore;
  readonly dependencies: RunDependencies;
  /** Folder of models and prompt files. */
  readonly modelRoot: string;
  /** Addresses of reward servers by name, for terms without an endpoint. Default: none. */
  readonly rewards?: ReadonlyMap<string, string>;
  /** Callers must send it as "authorization: Bearer <token>". Default: none. */
  readonly token?: string;
}

const PIECE = 2 ** 20;
const MAX_IMAGES = 4096;

/** The trainer service over a folder of runs. */
export function trainerService(options: TrainerOptions): GrpcService {
  return grpcService(TrainerService, trainerHandlers(options), {
    mapError: trainerErrors,
    ...(options.token !== undefined && { token: options.token }),
  });
}

/** The handlers, plain functions of requests. */
export function trainerHandlers(
  { store, dependencies, modelRoot, rewards: addresses = new Map() }: TrainerOptions,
): Handlers<typeof TrainerService> {
  const turns = new Turns();
  const fillIn = (field: string, terms: readonly (WireTerm | PanelReward)[]) =>
    fillInEndpoints(terms, { addresses, field });
  return {
    async startRun({ runId, config }) {
      fillIn("config.rewards", config?.rewards ?? []);
      fillIn("config.panel.rewards", config?.panel?.rewards ?? []);
      const { run, created } = await store.start(runId, await fromWireConfig(config, modelRoot));
      return { run: toWireRun(run), created };
    },
    async *watchRun({ runId, fromStep }, { signal }) {
      if (fromStep < 0) {
        throw new StatusError(
          "INVALID_ARGUMENT",
          `Field from_step is ${fromStep}, expected 0 or more`,
        );
      }
      for await (const event of store.get(runId).log.watch(fromStep, signal)) {
        yield toWireEvent(event);
      }
    },
    getRun: ({ runId }) => Promise.resolve({ run: toWireRun(store.get(runId)) }),
    listRuns: () =>
      Promise.resolve({ runs: store.list().map((run) => toWireRun(run, { brief: true })) }),
    async stopRun({ runId }) {
      const run = store.get(runId);
      await run.stop();
      return { run: toWireRun(run) };
    },
    async saveRun({ runId }) {
      return { step: await store.get(runId).save() };
    },
    async resumeRun({ runId, iterations }) {
      return { run: toWireRun(await store.resume(runId, iterations)) };
    },
    async deleteRun({ runId }) {
      await store.delete(runId);
      return {};
    },
    async swapReward({ runId, change }, { signal }) {
      const run = store.get(runId);
      if (run.ended) throw new RunStateError(`Run "${runId}" is ${run.state}: its rewards stay`);
      if (change.case === "set") fillIn("set", [change.value]);
      else if (change.case === "mixture") fillIn("mixture.rewards", change.value.rewards);
      const rewards = changed(run.rewards, change);
      return { step: await run.swap(rewards, signal), rewards: rewards.map(toWireTerm) };
    },
    async *sample(request, { signal }) {
      const { runId, step } = request;
      const run = store.get(runId);
      const config = sampling(run.config, request);
      const { loraScale = config.lora.sampleScale } = request;
      if (!Number.isFinite(loraScale)) {
        throw new FieldError("loraScale", `is ${loraScale}, expected a finite number`);
      }
      const requests = requestsOf(
        request.prompts.length > 0 ? request.prompts : heldOut(config),
        request,
      );
      const parameters = step === 0 ? undefined : await weights(run, step);
      using _turn = await turns.take(signal);
      yield* withModel(dependencies, { config, signal }, async function* (opened) {
        for await (
          const batch of drawWith(opened, requests, { config, parameters, loraScale, signal })
        ) {
          for (const [i, { prompt, seed }] of batch.requests.entries()) {
            yield {
              prompt,
              seed,
              png: await encodePng(batch.images, i),
              remark: opened.model.prompts.remark?.([prompt]) ?? "",
            } satisfies MessageInitShape<
              typeof SampleResponseSchema
            >;
          }
        }
      });
    },
    async *evaluateRun(request, { signal }) {
      const run = store.get(request.runId);
      const { config } = run;
      const prompts = await promptsOf(request.prompts, modelRoot, "prompts") ?? heldOut(config);
      const requests = requestsOf(prompts, request);
      fillIn("rewards", request.rewards);
      const terms = request.rewards.length > 0 ? mixtureOf(request.rewards) : run.rewards;
      const checkpoint = await checkpointOf(run, request.step);
      const clients = await connectAll(terms, (term) => dependencies.connect(term, signal));
      try {
        using _turn = await turns.take(signal);
        const mixture = new RewardMixture(clients);
        yield* withModel(dependencies, { config, signal }, async function* (opened) {
          type Scores = Record<string, number>;
          const pairs: { before: Scores; after: Scores }[] = [];
          const scored = async function* (parameters: Parameters | undefined) {
            const loraScale = config.lora.sampleScale;
            const options = { config, parameters, loraScale, signal };
            for await (const { requests: part, images } of drawWith(opened, requests, options)) {
              const rewards = await mixture.score(images, part.map((r) => r.prompt), { signal });
              for (const i of part.keys()) {
                yield Object.fromEntries(
                  Object.entries(rewards).map(([n, { perImage }]) => [n, perImage[i] ?? NaN]),
                );
              }
            }
          };
          const before: Scores[] = [];
          for await (const scores of scored(undefined)) before.push(scores);
          for await (const after of scored(checkpoint.parameters)) {
            const [at, first] = [pairs.length, before[pairs.length] ?? {}];
            pairs.push({ before: first, after });
            const { prompt = "", seed = 0 } = requests[at] ?? {};
            yield {
              event: { case: "pair", value: { prompt, seed, before: first, after } },
            } satisfies MessageInitShape<typeof EvaluateRunResponseSchema>;
          }
          const rewards = Object.fromEntries(terms.map(({ name }) => [
            name,
            pairedSummary(pairs.map((p) => [p.before[name] ?? NaN, p.after[name] ?? NaN])),
          ]));
          const value = { rewards, pairs: pairs.length, step: checkpoint.step };
          yield { event: { case: "summary", value } } satisfies MessageInitShape<
            typeof EvaluateRunResponseSchema
          >;
        });
      } finally {
        await Promise.all(clients.map(({ client }) => client.close()));
      }
    },
    async *exportLora({ runId, step, format, precision }) {
      const run = store.get(runId);
      const checkpoint = await checkpointOf(run, step);
      const { rank, alpha, targets } = run.config.lora;
      const lora = { rank, alpha, targets, tensors: loraTensors(checkpoint.parameters) };
      const write = format === LoraFormat.KOHYA ? toKohyaLora : toDiffusersLora;
      const { tensors, metadata } = write(lora, await run.savedProvenance(checkpoint.step));
      const stored = precision === LoraPrecision.FLOAT16
        ? Object.fromEntries(Object.entries(tensors).map(([n, t]) => [n, toHalf(t)]))
        : tensors;
      const bytes = encodeSafetensors({ ...stored }, { ...metadata });
      const name = format === LoraFormat.KOHYA
        ? `${runId}.safetensors`
        : "pytorch_lora_weights.safetensors";
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const file = { name, size: BigInt(bytes.length), sha256, step: checkpoint.step };
      yield { part: { case: "file", value: file } };
      for (let at = 0; at < bytes.length; at += PIECE) {
        yield { part: { case: "data", value: bytes.subarray(at, at + PIECE) } };
      }
    },
  };
}

function toHalf(tensor: Tensor): Tensor {
  return { dtype: "float16", shape: tensor.shape, data: float32ToFloat16(toFloat32(tensor).data) };
}

function loraTensors(parameters: Parameters) {
  return Object.fromEntries(Object.entries(parameters).map(([name, t]) => [name, t]));
}

const drawnSchema = z.strictObject({ prompts: z.array(promptSchema) });

const heldOut = (config: RunConfig) => config.heldOutPrompts;

function requestsOf(
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
function sampling(
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

async function checkpointOf(run: TrainingRun, step: number | undefined) {
  const { checkpoints } = run.folder;
  if (step === undefined) {
    const found = await newestCheckpoint(checkpoints);
    if (found !== undefined) return found.checkpoint;
    throw new StatusError("FAILED_PRECONDITION", `Run "${run.id}" has no checkpoint yet`);
  }
  if (run.checkpoints.includes(step)) return await readCheckpoint(checkpoints, step);
  throw new StatusError(
    "NOT_FOUND",
    `Run "${run.id}" has no checkpoint of step ${step}, only ${
      run.checkpoints.join(", ") || "none"
    }`,
  );
}

async function weights(run: TrainingRun, step: number | undefined): Promise<Parameters> {
  return (await checkpointOf(run, step)).parameters;
}

/** Uses a model and releases it, also where the caller goes while it is opened. */
async function* withModel<T>(
  dependencies: RunDependencies,
  { config, signal }: { readonly config: RunConfig; readonly signal: AbortSignal },
  use: (opened: OpenedModel) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const opening = dependencies.openModel(config);
  try {
    yield* use(await raceAbort(opening, signal));
  } finally {
    const released = opening.then((opened) => opened.release());
    // Nobody waits for one that is still being opened.
    if (signal.aborted) released.catch(() => {});
    else await released;
  }
}

async function* drawWith(
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

type Change =
  | { readonly case: "set"; readonly value: WireTerm }
  | { readonly case: "remove"; readonly value: string }
  | { readonly case: "mixture"; readonly value: { readonly rewards: readonly WireTerm[] } }
  | { readonly case: undefined };

function changed(present: readonly RewardTerm[], change: Change): readonly RewardTerm[] {
  switch (change.case) {
    case "set": {
      const [term] = mixtureOf([change.value]);
      if (term === undefined) throw new FieldError("set", "is empty");
      const known = present.some((t) => t.name === term.name);
      return trained(
        known ? present.map((t) => t.name === term.name ? term : t) : [...present, term],
      );
    }
    case "remove": {
      const left = present.filter((t) => t.name !== change.value);
      if (left.length === present.length) {
        throw new FieldError(
          "remove",
          `is "${change.value}", expected one of ${present.map((t) => t.name).join(", ")}`,
        );
      }
      if (left.length === 0) throw new FieldError("remove", "would leave no reward");
      return trained(left);
    }
    case "mixture":
      return trained(mixtureOf(change.value.rewards));
    case undefined:
      throw new FieldError("change", "is missing, expected set, remove or mixture");
  }
}

function mixtureOf(terms: readonly WireTerm[]): readonly RewardTerm[] {
  const schema = z.strictObject({ rewards: rewardMixtureSchema });
  return parseConfig(schema, { rewards: terms.map(fromWireTerm) }).rewards;
}

function trained(rewards: readonly RewardTerm[]): readonly RewardTerm[] {
  return parseConfig(z.strictObject({ rewards: trainedMixtureSchema }), { rewards }).rewards;
}

/** What callers are told. */
export function trainerErrors(error: unknown): StatusError | undefined {
  if (error instanceof StatusError) return error;
  const as = (status: StatusName) =>
    new StatusError(status, error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  if (error instanceof UnknownRunError) return as("NOT_FOUND");
  if (error instanceof RunConflictError) return as("ALREADY_EXISTS");
  if (error instanceof RunStateError) return as("FAILED_PRECONDITION");
  if (error instanceof DamagedCheckpointError) return as("DATA_LOSS");
  if (error instanceof CheckpointError) return as("FAILED_PRECONDITION");
  if (error instanceof TooManyRunsError || isDiskFull(error)) return as("RESOURCE_EXHAUSTED");
  if (error instanceof RewardRefusedError && error.cause instanceof StatusError) {
    return as(error.cause.status);
  }
  if (error instanceof RewardUnavailableError) return as("UNAVAILABLE");
  if (error instanceof MissingFileError) return as("NOT_FOUND");
  if (error instanceof InputError) return as("INVALID_ARGUMENT");
  if (error instanceof Deno.errors.NotFound) return as("NOT_FOUND");
  return undefined;
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    (error.code === "ENOSPC" || error.code === "EDQUOT");
}
