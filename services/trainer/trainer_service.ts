import { createHash } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type EvaluateRunResponseSchema,
  LoraFormat,
  LoraPrecision,
  type PanelReward,
  type RewardTerm as WireTerm,
  type SampleResponseSchema,
  TrainerService,
  type WorkerSchema,
} from "../../proto/mod.ts";
import type { Tensor } from "../../autodiff/mod.ts";
import {
  type Lora,
  type LoraFile,
  toDiffusersLora,
  toKohyaLora,
  toPeftLora,
} from "../../models/lora/mod.ts";
import { encodeSafetensors, float32ToFloat16, toFloat32 } from "../../models/weights/mod.ts";
import {
  encodePng,
  FieldError,
  listModels,
  loraOf,
  METHOD_NAMES,
  methodParameters,
  type Parameters,
  readProvenance,
  RewardMixture,
  type RunDependencies,
  runPictureNote,
  type RunStore,
} from "../../trainer/mod.ts";
import { type GrpcService, grpcService, type Handlers, StatusError } from "../rpc/mod.ts";
import {
  checkpointOf,
  drawWith,
  loraScaleOf,
  requestsOf,
  sampling,
  weights,
  withModel,
} from "./_drawing.ts";
import { changed, mixtureOf } from "./_mixture_change.ts";
import { pageOf } from "./_run_page.ts";
import { Turns } from "./_turns.ts";
import { fillInEndpoints } from "./fill_in_endpoints.ts";
import { pairedSummary } from "./paired_summary.ts";
import { planRunRequest } from "./plan_run.ts";
import { connectAll } from "../reward_client/mod.ts";
import { trainerErrors } from "./trainer_errors.ts";
import { fromWireConfig, promptsOf, toWireTerm } from "./wire_config.ts";
import { toUnreadableRun, toWireEvent, toWireRun } from "./wire_events.ts";

/** What the handlers work with. */
export interface TrainerOptions {
  readonly store: RunStore;
  readonly dependencies: RunDependencies;
  /** Folder of models and prompt files. */
  readonly modelRoot: string;
  /** Addresses of reward servers by name, for terms without an endpoint. Default: none. */
  readonly rewards?: ReadonlyMap<string, string>;
  /** The workers that compute for this trainer. Default: none. */
  readonly workers?: () => readonly MessageInitShape<typeof WorkerSchema>[];
  /** Callers must send it as "authorization: Bearer <token>". Default: none. */
  readonly token?: string;
}

const PIECE = 2 ** 20;

/** Key of a LoRA file's metadata: the factor to draw it with. */
const LORA_SCALE = "drtune.lora_scale";

/** The trainer service over a folder of runs. */
export function trainerService(options: TrainerOptions): GrpcService {
  return grpcService(TrainerService, trainerHandlers(options), {
    mapError: trainerErrors,
    ...(options.token !== undefined && { token: options.token }),
  });
}

/** The handlers, plain functions of requests. */
export function trainerHandlers(
  { store, dependencies, modelRoot, rewards: addresses = new Map(), workers = () => [] }:
    TrainerOptions,
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
    getRun({ runId, wholePrompts }) {
      const reason = store.unreadable.get(runId);
      if (reason !== undefined) return Promise.resolve({ run: toUnreadableRun(runId, reason) });
      const prompts = wholePrompts ? "whole" : "beginning";
      return Promise.resolve({ run: toWireRun(store.get(runId), { prompts }) });
    },
    listRuns: (request) => Promise.resolve(pageOf(store, request)),
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
      if (change.case === "set") fillIn("set", [change.value]);
      else if (change.case === "mixture") fillIn("mixture.rewards", change.value.rewards);
      const { step, rewards } = await run.change((present) => changed(present, change), signal);
      return { step, rewards: rewards.map(toWireTerm) };
    },
    async *sample(request, { signal }) {
      const { runId, step } = request;
      const run = store.get(runId);
      const config = sampling(run.config, request);
      const { loraScale = loraScaleOf(run, step) } = request;
      if (!Number.isFinite(loraScale)) {
        throw new FieldError("loraScale", `is ${loraScale}, expected a finite number`);
      }
      const requests = requestsOf(
        request.prompts.length > 0 ? request.prompts : config.heldOutPrompts,
        request,
      );
      const parameters = step === 0 ? undefined : await weights(run, { step, signal });
      yield* withModel(dependencies, { config, signal, turns }, async function* (opened) {
        for await (
          const batch of drawWith(opened, requests, { config, parameters, loraScale, signal })
        ) {
          for (const [i, drawn] of batch.requests.entries()) {
            const { prompt, seed } = drawn;
            const note = runPictureNote(config, {
              request: drawn,
              images: batch.images,
              ...(step !== 0 && { lora: { name: runId, scale: loraScale } }),
            });
            yield {
              prompt,
              seed,
              png: await encodePng(batch.images, i, note),
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
      const prompts = await promptsOf(request.prompts, modelRoot, "prompts") ??
        config.heldOutPrompts;
      const requests = requestsOf(prompts, request);
      fillIn("rewards", request.rewards);
      const terms = request.rewards.length > 0 ? mixtureOf(request.rewards) : run.rewards;
      const checkpoint = await checkpointOf(run, { step: request.step, signal });
      const clients = await connectAll(terms, (term) => dependencies.connect(term, signal));
      try {
        const mixture = new RewardMixture(clients);
        yield* withModel(dependencies, { config, signal, turns }, async function* (opened) {
          type Scores = Record<string, number>;
          const pairs: { before: Scores; after: Scores }[] = [];
          const scored = async function* (parameters: Parameters | undefined) {
            const loraScale = loraScaleOf(run, request.step);
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
          for await (const after of scored(loraOf(checkpoint))) {
            const [at, first] = [pairs.length, before[pairs.length] ?? {}];
            pairs.push({ before: first, after });
            const { prompt = "", seed = 0 } = requests[at] ?? {};
            yield {
              event: { case: "pair", value: { prompt, seed, before: first, after } },
            } satisfies MessageInitShape<typeof EvaluateRunResponseSchema>;
          }
          const rewards = Object.fromEntries(clients.map(({ term: { name }, client }) => [name, {
            ...pairedSummary(pairs.map((p) => [p.before[name] ?? NaN, p.after[name] ?? NaN])),
            smallerIsBetter: client.direction === "minimise",
          }]));
          const value = { rewards, pairs: pairs.length, step: checkpoint.step };
          yield { event: { case: "summary", value } } satisfies MessageInitShape<
            typeof EvaluateRunResponseSchema
          >;
        });
      } finally {
        await Promise.all(clients.map(({ client }) => client.close()));
      }
    },
    listWorkers: () => Promise.resolve({ workers: [...workers()] }),
    async *exportLora({ runId, step, format, precision }, { signal }) {
      const run = store.get(runId);
      const checkpoint = await checkpointOf(run, { step, signal });
      const lora = { ...run.config.lora, tensors: { ...loraOf(checkpoint) } };
      const { name, write } = exportIn(format, runId);
      const loraScale = loraScaleOf(run, step);
      const notes = await readProvenance(run.folder.checkpoints, checkpoint.step);
      const { tensors, metadata } = write(lora, { ...notes, [LORA_SCALE]: String(loraScale) });
      const stored = precision === LoraPrecision.FLOAT16
        ? Object.fromEntries(Object.entries(tensors).map(([n, t]) => [n, toHalf(t)]))
        : tensors;
      const bytes = encodeSafetensors({ ...stored }, { ...metadata });
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const file = { name, size: BigInt(bytes.length), sha256, step: checkpoint.step, loraScale };
      yield { part: { case: "file", value: file } };
      for (let at = 0; at < bytes.length; at += PIECE) {
        yield { part: { case: "data", value: bytes.subarray(at, at + PIECE) } };
      }
    },
    planRun: ({ config }, { signal }) =>
      planRunRequest(config, { dependencies, modelRoot, addresses, signal }),
    async describeTrainer() {
      const { models, promptFiles } = await listModels(modelRoot);
      return {
        models: models.map((model) => ({ ...model, samplers: [...model.samplers] })),
        promptFiles: [...promptFiles],
        methods: METHOD_NAMES.map((name) => ({
          name,
          parameters: [...methodParameters(name)],
        })),
        rewards: [...addresses.keys()],
      };
    },
  };
}

function toHalf(tensor: Tensor): Tensor {
  return { dtype: "float16", shape: tensor.shape, data: float32ToFloat16(toFloat32(tensor).data) };
}

/** How a LoRA is written in a format, and what its file is called there. */
function exportIn(
  format: LoraFormat,
  runId: string,
): {
  readonly name: string;
  readonly write: (lora: Lora, notes: Readonly<Record<string, string>>) => LoraFile;
} {
  switch (format) {
    case LoraFormat.KOHYA:
      return { name: `${runId}.safetensors`, write: toKohyaLora };
    case LoraFormat.PEFT:
      return { name: "adapter_model.safetensors", write: toPeftFile };
    default:
      return { name: "pytorch_lora_weights.safetensors", write: toDiffusersLora };
  }
}

/** PEFT's file, with the configuration that belongs beside it in its header. */
function toPeftFile(lora: Lora, notes: Readonly<Record<string, string>>): LoraFile {
  const { tensors, metadata, config } = toPeftLora(lora, notes);
  return { tensors, metadata: { ...metadata, adapter_config: JSON.stringify(config) } };
}
