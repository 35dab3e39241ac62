import { clone, create, fromJson, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { dirname, join } from "node:path";
import {
  type RewardTerm,
  RewardTermSchema,
  type Run,
  RunConfigSchema,
  RunSchema,
  RunState,
  type SampleReference,
  SampleReferenceSchema,
  type StepEvent,
  StepEventSchema,
  TrainerService,
  type WatchRunResponse,
  WatchRunResponseSchema,
  type WorkerSchema,
} from "../../../proto/mod.ts";
import { raceAbort } from "../../../base/mod.ts";
import { type GrpcService, grpcService, type Handlers, StatusError } from "../../rpc/mod.ts";
import { drawImage } from "./draw_image.ts";
import { FAKE_TRAINER, fakePlan } from "./fake_plan.ts";

const PROMPTS = [
  "a fox in the snow",
  "a lighthouse at dusk",
  "a bowl of lemons",
  "an owl, woodcut",
];

const DEFAULTS = {
  model: "pipeline",
  method: { name: "drtune", k: 2, m: 4, inputStopGradient: true, earlyStop: true },
  sampler: { kind: "ddpm", steps: 10 },
  guidance: { scale: 5 },
  lora: { rank: 16, alpha: 16, targets: ["to_q", "to_k", "to_v", "to_out.0"] },
  optimizer: { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, maxGradNorm: 0.1 },
  batch: { size: 8, accumulation: 1 },
  prompts: { file: "prompts/concepts.txt" },
  iterations: 60,
  checkpointEvery: 20,
  sampleEvery: 10,
  seed: 0,
};

/** A run and what was recorded of it. */
interface FakeRun {
  readonly run: Run;
  readonly prompts: readonly string[];
  readonly events: WatchRunResponse[];
  /** Wakes those who watch. */
  changed: PromiseWithResolvers<void>;
}

/** A trainer that computes nothing: its runs follow closed forms, so that tests know every number. */
export class FakeTrainer {
  readonly service: GrpcService;
  /** What ListWorkers answers. */
  workers: MessageInitShape<typeof WorkerSchema>[] = [];
  readonly #runs = new Map<string, FakeRun>();
  readonly #folder: string;
  readonly #rewards: readonly { readonly name: string; readonly endpoint: string }[];
  readonly #timers = new Set<ReturnType<typeof setInterval>>();

  /**
   * @param folder where samples are written, one folder for each run
   * @param rewards addresses of the mixture's rewards by name, for runs that are added without a mixture
   * @param handlers in place of its own
   */
  constructor(
    folder: string,
    rewards: ReadonlyMap<string, string>,
    handlers: Partial<Handlers<typeof TrainerService>> = {},
  ) {
    this.#folder = folder;
    this.#rewards = [...rewards].map(([name, endpoint]) => ({ name, endpoint, weight: 1 }));
    this.service = grpcService(TrainerService, {
      startRun: async ({ runId, config }) => {
        const known = this.#runs.get(runId);
        if (known) return { run: known.run, created: false };
        if (!config?.model) {
          throw new StatusError("INVALID_ARGUMENT", 'Field model is "", expected a model folder');
        }
        await this.add({ id: runId, config, state: RunState.RUNNING });
        return { run: this.#get(runId).run, created: true };
      },
      watchRun: ({ runId, fromStep }, { signal }) => this.#watch(runId, fromStep, signal),
      getRun: ({ runId }) => Promise.resolve({ run: this.#get(runId).run }),
      listRuns: () => Promise.resolve({ runs: [...this.#runs.values()].map(({ run }) => run) }),
      stopRun: ({ runId }) => {
        this.#setState(runId, RunState.STOPPED, "Stopped by the user");
        return Promise.resolve({ run: this.#get(runId).run });
      },
      saveRun: ({ runId }) => {
        const { run } = this.#get(runId);
        if (run.state !== RunState.RUNNING) {
          throw new StatusError("FAILED_PRECONDITION", `Run ${runId} is not running`);
        }
        const { step } = run;
        this.#record(runId, { event: { case: "save", value: { step, at: run.updatedAt } } });
        this.#checkpoint(run);
        return Promise.resolve({ step });
      },
      resumeRun: ({ runId, iterations }) => {
        const { run } = this.#get(runId);
        if (run.state === RunState.RUNNING) {
          throw new StatusError(
            "FAILED_PRECONDITION",
            `Run ${runId} is running, expected an ended one`,
          );
        }
        run.iterations = iterations ?? run.iterations;
        delete run.endedAt;
        this.#setState(runId, RunState.RUNNING, "");
        return Promise.resolve({ run });
      },
      deleteRun: ({ runId }) => {
        if (this.#get(runId).run.state === RunState.RUNNING) {
          throw new StatusError(
            "FAILED_PRECONDITION",
            `Run ${runId} is running, expected an ended one`,
          );
        }
        this.delete(runId);
        return Promise.resolve({});
      },
      swapReward: ({ runId, change }) => {
        const { run } = this.#get(runId);
        const others = (name: string) => run.rewards.filter((term) => term.name !== name);
        const rewards = change.case === "mixture"
          ? change.value.rewards
          : change.case === "set"
          ? [...others(change.value.name), change.value]
          : others(change.value ?? "");
        this.swap(runId, rewards);
        return Promise.resolve({ step: run.step, rewards });
      },
      sample: ({ runId, step, prompts, seed = 0, imagesPerPrompt = 1 }) =>
        this.#sample(runId, { step, prompts, seed, imagesPerPrompt }),
      evaluateRun: ({ runId, seed = 0 }) => this.#evaluate(runId, seed),
      listWorkers: () => Promise.resolve({ workers: this.workers }),
      exportLora: ({ runId, step = 60 }) => this.#export(runId, step),
      planRun: ({ config }) => Promise.resolve(fakePlan(config)),
      describeTrainer: () => Promise.resolve(FAKE_TRAINER),
      ...handlers,
    });
  }

  /** Adds a run. */
  async add(
    { id, steps = 0, state, reason = "", config = {}, minutesAgo = 0, prompts = PROMPTS }: {
      readonly id: string;
      /** Steps it has done. */
      readonly steps?: number;
      readonly state: RunState;
      readonly reason?: string;
      readonly config?: MessageInitShape<typeof RunConfigSchema>;
      readonly minutesAgo?: number;
      /** What the run trains on and draws. */
      readonly prompts?: readonly string[];
    },
  ): Promise<void> {
    const own = toJson(RunConfigSchema, create(RunConfigSchema, config));
    const full = fromJson(
      RunConfigSchema,
      Object.assign({ ...DEFAULTS, rewards: this.#rewards }, own),
    );
    const at = timestampFromMs(Date.now() - minutesAgo * 60_000);
    const run = create(RunSchema, {
      id,
      state: RunState.RUNNING,
      iterations: full.iterations ?? 60,
      createdAt: at,
      updatedAt: at,
      config: full,
      rewards: full.rewards.map((term) => clone(RewardTermSchema, term)),
    });
    this.#runs.set(id, { run, prompts, events: [], changed: Promise.withResolvers() });
    const samples = await this.#writeSamples(run);
    const before = create(StepEventSchema, { step: 0, samples, at });
    this.#record(id, { event: { case: "step", value: before } });
    for (let i = 0; i < steps; i++) await this.step(id);
    if (state !== RunState.RUNNING) this.#setState(id, state, reason);
  }

  /** Forgets a run. */
  delete(id: string): void {
    this.#runs.delete(id);
  }

  /** Does one step of a run. */
  async step(id: string): Promise<void> {
    const { run, prompts } = this.#get(id);
    const step = ++run.step;
    const event = stepEvent(run, { step, of: prompts });
    if (step % (run.config?.sampleEvery ?? 10) === 0) {
      event.samples.push(...await this.#writeSamples(run));
      // Images of the iteration look like its samples.
      const { length } = event.samples;
      event.images = event.prompts.map((_, i) => event.samples[i % length]?.path ?? "");
    }
    run.latest = event;
    run.updatedAt = timestampFromMs(Date.now());
    this.#record(id, { event: { case: "step", value: event } });
    if (step % (run.config?.checkpointEvery ?? 20) === 0) this.#checkpoint(run);
    if (step >= run.iterations) this.#setState(id, RunState.FINISHED, "");
  }

  #checkpoint({ id, step, updatedAt: at, checkpoints }: Run): void {
    if (!checkpoints.includes(step)) checkpoints.push(step);
    this.#record(id, { event: { case: "checkpoint", value: { step, at } } });
  }

  /** Changes the mixture of a run. */
  swap(id: string, rewards: readonly MessageInitShape<typeof RewardTermSchema>[]): void {
    const { run } = this.#get(id);
    const at = timestampFromMs(Date.now());
    run.rewards = rewards.map((term): RewardTerm => create(RewardTermSchema, term));
    this.#record(id, {
      event: { case: "swap", value: { step: run.step, rewards: run.rewards, at } },
    });
  }

  /** Lets every run that is running do a step this often, until `close`. */
  tick(everyMs: number): void {
    this.#timers.add(setInterval(() => {
      for (const { run } of this.#runs.values()) {
        if (run.state === RunState.RUNNING) void this.step(run.id);
      }
    }, everyMs));
  }

  close(): void {
    this.#timers.forEach((timer) => clearInterval(timer));
  }

  #get(id: string): FakeRun {
    const found = this.#runs.get(id);
    if (found) return found;
    throw new StatusError("NOT_FOUND", `No run ${id}`);
  }

  #record(id: string, event: MessageInitShape<typeof WatchRunResponseSchema>): void {
    const run = this.#get(id);
    run.events.push(create(WatchRunResponseSchema, event));
    run.changed.resolve();
    run.changed = Promise.withResolvers();
  }

  #setState(id: string, state: RunState, reason: string): void {
    const { run } = this.#get(id);
    const at = timestampFromMs(Date.now());
    Object.assign(run, { state, reason, updatedAt: at });
    if (state !== RunState.RUNNING && state !== RunState.PAUSED) run.endedAt = at;
    this.#record(id, { event: { case: "state", value: { state, reason, step: run.step, at } } });
  }

  async *#watch(
    id: string,
    fromStep: number,
    signal: AbortSignal,
  ): AsyncIterable<MessageInitShape<typeof WatchRunResponseSchema>> {
    const found = this.#get(id);
    const { run, events } = found;
    const { state, reason, step } = run;
    yield { event: { case: "state", value: { state, reason, step } } };
    for (let i = 0;; i++) {
      while (i >= events.length) {
        const going = run.state === RunState.RUNNING || run.state === RunState.PAUSED;
        if (!going) return;
        await raceAbort(found.changed.promise, signal);
      }
      const event = events[i];
      if (event && (event.event.value?.step ?? 0) >= fromStep) yield event;
    }
  }

  async *#sample(
    id: string,
    { step, prompts, seed, imagesPerPrompt }: {
      readonly step: number | undefined;
      readonly prompts: readonly string[];
      readonly seed: number;
      readonly imagesPerPrompt: number;
    },
  ) {
    const { run, prompts: heldOut } = this.#get(id);
    const from = step ?? run.checkpoints.at(-1) ?? 0;
    if (from !== 0 && !run.checkpoints.includes(from)) {
      throw new StatusError("NOT_FOUND", `Run ${id} has no checkpoint ${from}`);
    }
    for (const prompt of prompts.length > 0 ? prompts : heldOut) {
      for (let i = 0; i < imagesPerPrompt; i++) {
        const look = hash(prompt) + seed + i;
        const png = await drawImage({ seed: look, progress: from / run.iterations, side: 256 });
        yield { prompt, seed: seed + i, png };
      }
    }
  }

  async *#evaluate(runId: string, seed: number) {
    const { prompts } = this.#get(runId);
    for (const [i, prompt] of prompts.entries()) {
      const pair = {
        prompt,
        seed: seed + i,
        before: { symmetry: 1 },
        after: { symmetry: 0.5 },
      };
      yield { event: { case: "pair" as const, value: pair } };
    }
    const symmetry = { before: 1, after: 0.5, difference: -0.5, lower: -0.6, upper: -0.4 };
    const value = { rewards: { symmetry }, pairs: prompts.length, step: 20 };
    yield { event: { case: "summary" as const, value } };
  }

  async *#export(runId: string, step: number) {
    this.#get(runId);
    const value = { name: "pytorch_lora_weights.safetensors", size: 6n, sha256: "ab", step };
    yield { part: { case: "file" as const, value } };
    yield { part: { case: "data" as const, value: Uint8Array.of(1, 2, 3) } };
    yield { part: { case: "data" as const, value: Uint8Array.of(4, 5, 6) } };
  }

  #writeSamples(run: Run): Promise<SampleReference[]> {
    const progress = run.step / run.iterations;
    const { prompts } = this.#get(run.id);
    return Promise.all(prompts.map(async (prompt, seed) => {
      const path = `samples/step-${String(run.step).padStart(6, "0")}/${seed}.png`;
      const file = join(this.#folder, run.id, path);
      await Deno.mkdir(dirname(file), { recursive: true });
      await Deno.writeFile(file, await drawImage({ seed: hash(prompt), progress }));
      const rewards = { symmetry: 1 - progress, clip: 0.2 + 0.1 * progress };
      return create(SampleReferenceSchema, { prompt, seed, path, rewards });
    }));
  }
}

/** What step n of a run says: symmetry falls, CLIP rises, with ripples that stand for noise. */
function stepEvent(
  { rewards, iterations, config }: Run,
  { step, of }: { readonly step: number; readonly of: readonly string[] },
): StepEvent {
  const t = step / iterations;
  const images = config?.batch?.size ?? 8;
  const names = rewards.map(({ name }) => name);
  const value = (name: string, i: number) => {
    const ripple = Math.sin(step * 12.9898 + i * 78.233 + hash(name));
    return name === "symmetry"
      ? 0.2 + 0.9 * Math.exp(-3 * t) + 0.06 * ripple
      : 0.22 + 0.09 * (1 - Math.exp(-2.5 * t)) + 0.012 * ripple;
  };
  const perImage = (name: string) => Array.from({ length: images }, (_, i) => value(name, i));
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return create(StepEventSchema, {
    step,
    loss: mean(perImage("symmetry")) - mean(perImage("clip")),
    gradNorm: 0.08 + 0.3 * Math.exp(-2 * t) * (1.2 + Math.sin(step * 1.7)),
    rewards: Object.fromEntries(
      names.map((name) => [name, {
        mean: mean(perImage(name)),
        perImage: perImage(name),
        digest: hash(name).toString(16).padStart(8, "0").repeat(8),
      }]),
    ),
    seconds: {
      sample: 1.31,
      decode: 0.09,
      reward: 0.22,
      gradient: 0.64,
      update: 0.03,
      total: 2.29,
    },
    secondsLeft: (iterations - step) * 2.29,
    prompts: Array.from({ length: images }, (_, i) => of[(i + step) % of.length] ?? ""),
    at: timestampFromMs(Date.now()),
  });
}

function hash(text: string): number {
  return [...text].reduce((h, ch) => (h * 31 + (ch.codePointAt(0) ?? 0)) >>> 0, 7);
}
