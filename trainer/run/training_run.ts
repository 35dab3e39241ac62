import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import { plan, resolveMethod } from "../methods/mod.ts";
import type { AdaptedDenoiser, Model } from "../model/mod.ts";
import { clipFactor, globalNorm, initAdamW, scaled, updateAdamW } from "../optim/mod.ts";
import { permutation, randomStream } from "../random.ts";
import { makeSampler, type SchedulerConfig } from "../samplers/mod.ts";
import { seededNoise, type StepPhase, trainStep } from "../step/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import {
  type Checkpoint,
  listCheckpoints,
  newestCheckpoint,
  readProvenance,
  removeAttempts,
  writeCheckpoint,
} from "./checkpoint.ts";
import { draw, encodePng } from "./pictures.ts";
import {
  type ConnectedTerm,
  type RewardClient,
  RewardMixture,
  RewardUnavailableError,
} from "./reward_mixture.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type {
  RewardMetrics,
  RunEvent,
  RunState,
  SampleReference,
  StateEvent,
  StepEvent,
} from "./run_events.ts";
import type { RunFolder } from "./run_folder.ts";

/** A model opened for a run. */
export interface OpenedModel {
  readonly model: Model;
  readonly scheduler: SchedulerConfig;
  /** Of the latents: the configuration's, or the U-Net's own size. */
  readonly latents: { readonly channels: number; readonly height: number; readonly width: number };
  release(): Promise<void>;
}

/** What a run needs from outside. */
export interface RunDependencies {
  openModel(config: RunConfig): Promise<OpenedModel>;
  /** Throws `RewardUnavailableError` where the service does not answer. */
  connect(term: RewardTerm, signal: AbortSignal): Promise<RewardClient>;
  /** Present time. */
  readonly now?: () => Date;
  /** Longest wait between two tries of a reward that is away, in milliseconds. Default 10,000. */
  readonly maxRetryMs?: number;
}

const SAMPLE_LIMIT = 8;
const ENDED: ReadonlySet<RunState> = new Set(["stopped", "finished", "failed"]);

/** One run: trains in the background, answers questions about itself, and goes on from its folder. */
export class TrainingRun {
  readonly id: string;
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly createdAt: string;
  readonly #dependencies: RunDependencies;
  readonly #events: RunEvent[];
  readonly #watchers = new Set<() => void>();
  readonly #clients = new Map<string, Promise<RewardClient>>();
  #iterations: number;
  #step = 0;
  #checkpoints: readonly number[] = [];
  #stopping = new AbortController();

  constructor(
    { id, folder, config, createdAt, events }: {
      readonly id: string;
      readonly folder: RunFolder;
      readonly config: RunConfig;
      readonly createdAt: string;
      readonly events: readonly RunEvent[];
    },
    dependencies: RunDependencies,
  ) {
    this.id = id;
    this.folder = folder;
    this.config = config;
    this.createdAt = createdAt;
    this.#events = [...events];
    this.#dependencies = dependencies;
    this.#iterations = config.iterations;
    this.#step = this.latest?.step ?? 0;
  }

  get events(): readonly RunEvent[] {
    return this.#events;
  }
  /** Iterations done. */
  get step(): number {
    return this.#step;
  }
  get iterations(): number {
    return this.#iterations;
  }
  get checkpoints(): readonly number[] {
    return this.#checkpoints;
  }
  /** The last iteration's event. */
  get latest(): StepEvent | undefined {
    return this.#events.findLast((e): e is StepEvent => e.type === "step" && e.step > 0);
  }
  get lastState(): StateEvent | undefined {
    return this.#events.findLast((e): e is StateEvent => e.type === "state");
  }
  get state(): RunState {
    return this.lastState?.state ?? "queued";
  }
  get ended(): boolean {
    return ENDED.has(this.state);
  }
  /** The mixture of the iteration after the ones done. */
  get rewards(): readonly RewardTerm[] {
    return this.#mixtureOf(this.#step + 1);
  }

  /** Reads which checkpoints there are. */
  async refresh(): Promise<void> {
    this.#checkpoints = await listCheckpoints(this.folder.checkpoints);
  }

  /** Events from step `from` on, then new ones as they happen, until the run has ended. */
  async *watch(from: number, signal?: AbortSignal): AsyncGenerator<RunEvent> {
    const present = this.lastState;
    if (present !== undefined) yield present;
    for (let at = 0;;) {
      while (at < this.#events.length) {
        const event = this.#events[at++];
        if (event === undefined || event === present) continue;
        if (event.step >= from || (event.type !== "step" && from <= 1)) yield event;
      }
      if (this.ended) return;
      signal?.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#watchers.add(resolve);
      signal?.addEventListener("abort", () => resolve(), { once: true });
      await promise;
      this.#watchers.delete(resolve);
    }
  }

  /** Puts the run into a state, in the log too. */
  async setState(state: RunState, reason = ""): Promise<void> {
    await this.#emit({ type: "state", state, reason, step: this.#step, at: this.#now() });
  }

  /** Asks the run to finish its step, write a checkpoint and stop. */
  async stop(): Promise<void> {
    if (this.ended || this.state === "stopping") return;
    const waiting = this.state === "queued";
    this.#stopping.abort();
    await this.setState(waiting ? "stopped" : "stopping");
  }

  /** Takes a run that has ended back, with more iterations if asked. */
  async requeue(iterations = this.#iterations): Promise<void> {
    this.#iterations = Math.max(iterations, this.#step);
    this.#stopping = new AbortController();
    await this.setState("queued");
  }

  /**
   * Changes the mixture from the next iteration on, once the new rewards have answered. Returns how many iterations
   * are done under the old one.
   */
  async swap(rewards: readonly RewardTerm[]): Promise<number> {
    await Promise.all(rewards.map((term) => this.#client(term, AbortSignal.timeout(30_000))));
    // The iteration in progress keeps its mixture: the change counts from the one after it.
    const step = this.#step + (this.state === "running" ? 1 : 0);
    await this.#emit({ type: "swap", step, rewards, at: this.#now() });
    return step;
  }

  /** Trains until it is done, stopped or failed. Never throws: what went wrong is in the state. */
  async execute(): Promise<void> {
    let opened: OpenedModel | undefined;
    try {
      await this.setState("running");
      await removeAttempts(this.folder.checkpoints);
      opened = await this.#dependencies.openModel(this.config);
      await this.#train(opened);
    } catch (error) {
      await this.setState("failed", error instanceof Error ? error.message : String(error))
        .catch(() => {});
    } finally {
      await opened?.release().catch(() => {});
      await this.#disconnect();
    }
  }

  async #train(opened: OpenedModel): Promise<void> {
    const { model } = opened;
    let at = await this.#restore(model);
    const denoiser = await model.adapt(at.parameters);
    try {
      if (at.step === 0 && this.config.sampleEvery > 0) await this.#sampleBefore(opened, denoiser);
      const started = performance.now();
      const first = at.step;
      while (at.step < this.#iterations && !this.#stopping.signal.aborted) {
        const next = await this.#withPatience(() =>
          this.#iterate(opened, { at, denoiser, started, first })
        );
        if (next === undefined) break;
        at = next;
        if (this.#isDue(this.config.checkpointEvery, at.step)) await this.#save(at, model);
      }
      if (!this.#checkpoints.includes(at.step)) await this.#save(at, model);
      await this.setState(at.step >= this.#iterations ? "finished" : "stopped");
    } finally {
      await denoiser.release();
    }
  }

  /** The newest checkpoint, or the beginning; the log loses what will be done again. */
  async #restore(model: Model): Promise<Checkpoint> {
    const found = await newestCheckpoint(this.folder.checkpoints);
    await this.refresh();
    const step = found?.step ?? 0;
    const kept = this.#events.filter((e) =>
      e.type === "swap" || e.type === "state" || e.step <= step
    );
    if (kept.length < this.#events.length) {
      this.#events.splice(0, this.#events.length, ...kept);
      await this.folder.rewrite(kept);
    }
    this.#step = step;
    if (found !== undefined) return found;
    const parameters = model.initialParameters(this.config.seed);
    return { step: 0, parameters, optimizer: initAdamW(parameters) };
  }

  async #iterate(
    { model, scheduler, latents }: OpenedModel,
    { at, denoiser, started, first }: {
      readonly at: Checkpoint;
      readonly denoiser: AdaptedDenoiser;
      readonly started: number;
      readonly first: number;
    },
  ): Promise<Checkpoint> {
    const { config } = this;
    const iteration = at.step + 1;
    const begun = performance.now();
    const { size, accumulation } = config.batch;
    const mixture = await this.#mixture(iteration);
    const sampler = makeSampler(config.sampler, scheduler);
    const method = resolveMethod(config.method, config.sampler.steps);
    const gradients: Record<string, Float32Tensor> = {};
    const metrics: Record<string, { values: number[]; digest: string }> = {};
    const seconds: Record<StepPhase | "update" | "total", number> = {
      sample: 0,
      decode: 0,
      reward: 0,
      gradient: 0,
      update: 0,
      total: 0,
    };
    const prompts = this.#prompts(iteration);
    let loss = 0;
    for (let a = 0; a < accumulation; a++) {
      const part = prompts.slice(a * size, (a + 1) * size);
      const images = part.map((_, i) => ({ seed: config.seed, iteration, image: a * size + i }));
      const result = await trainStep({ prompts: model.prompts, decoder: model.decoder, denoiser }, {
        sampler,
        plan: plan(method, {
          T: config.sampler.steps,
          random: randomStream(config.seed, "plan", { iteration, image: a }),
        }),
        guidance: config.guidance,
        prompts: part,
        noise: seededNoise(images, latents),
        reward: mixture,
        probe: assertFinite,
      });
      accumulate(gradients, result.gradients);
      loss += result.evaluation.loss / accumulation;
      for (const [name, { perImage, digest }] of Object.entries(result.evaluation.rewards)) {
        const entry = metrics[name] ??= { values: [], digest };
        entry.values.push(...perImage);
      }
      for (const [phase, s] of Object.entries(result.seconds)) {
        if (phase in seconds) seconds[toPhase(phase)] += s;
      }
    }
    const updating = performance.now();
    const { next, gradNorm } = this.#update(at, gradients);
    await denoiser.update(next.parameters);
    seconds.update = (performance.now() - updating) / 1000;
    seconds.total = (performance.now() - begun) / 1000;
    this.#step = iteration;
    const samples = this.#isDue(config.sampleEvery, iteration)
      ? await this.#sample({ model, scheduler, latents, release: () => Promise.resolve() }, {
        denoiser,
        step: iteration,
        mixture,
      })
      : [];
    const pace = (performance.now() - started) / 1000 / (iteration - first);
    await this.#emit({
      type: "step",
      step: iteration,
      loss,
      gradNorm,
      rewards: Object.fromEntries(
        Object.entries(metrics).map(([n, { values, digest }]): [string, RewardMetrics] => [
          n,
          { mean: values.reduce((x, y) => x + y, 0) / values.length, perImage: values, digest },
        ]),
      ),
      seconds,
      secondsLeft: pace * (this.#iterations - iteration),
      samples,
      prompts,
      at: this.#now(),
    });
    return next;
  }

  #update(at: Checkpoint, sums: Parameters): { next: Checkpoint; gradNorm: number } {
    const { maxGradNorm, ...options } = this.config.optimizer;
    // A batch may have reached no trained step of some draw: what is missing is zero.
    const whole = Object.fromEntries(
      Object.entries(at.parameters).map(([name, p]) => [
        name,
        sums[name] ?? float32(new Float32Array(p.data.length), p.shape),
      ]),
    );
    const mean = scaled(whole, 1 / this.config.batch.accumulation);
    const gradNorm = globalNorm(mean);
    assertFinite("gradient norm", float32([gradNorm]));
    const { parameters, state } = updateAdamW({
      parameters: at.parameters,
      gradients: scaled(mean, clipFactor(gradNorm, maxGradNorm)),
      state: at.optimizer,
    }, options);
    return { next: { step: at.step + 1, parameters, optimizer: state }, gradNorm };
  }

  /** Prompts of an iteration: each pass over the list is a new seeded permutation. */
  #prompts(iteration: number): readonly string[] {
    const { prompts, batch: { size, accumulation }, seed } = this.config;
    const count = size * accumulation;
    const orders = new Map<number, Uint32Array>();
    return Array.from({ length: count }, (_, i) => {
      const n = (iteration - 1) * count + i;
      const pass = Math.floor(n / prompts.length);
      const order = orders.get(pass) ??
        permutation(prompts.length, randomStream(seed, "prompts", { iteration: pass }));
      orders.set(pass, order);
      return prompts[order[n % prompts.length] ?? 0] ?? "";
    });
  }

  async #sampleBefore(opened: OpenedModel, denoiser: AdaptedDenoiser): Promise<void> {
    if (this.#events.some((e) => e.type === "step" && e.step === 0)) return;
    const samples = await this.#withPatience(async () =>
      await this.#sample(opened, { denoiser, step: 0, mixture: await this.#mixture(1) })
    );
    if (samples === undefined) return;
    await this.#emit({
      type: "step",
      step: 0,
      loss: 0,
      gradNorm: 0,
      rewards: {},
      seconds: {},
      secondsLeft: 0,
      samples,
      prompts: [],
      at: this.#now(),
    });
  }

  async #sample(
    { model, scheduler, latents }: OpenedModel,
    { denoiser, step, mixture }: {
      readonly denoiser: AdaptedDenoiser;
      readonly step: number;
      readonly mixture: RewardMixture;
    },
  ): Promise<readonly SampleReference[]> {
    const { config } = this;
    const prompts = (config.heldOutPrompts ?? config.prompts).slice(0, SAMPLE_LIMIT);
    const path = join("samples", `step-${String(step).padStart(6, "0")}`);
    await mkdir(join(this.folder.path, path), { recursive: true });
    const out: SampleReference[] = [];
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    const requests = prompts.map((prompt, seed) => ({ prompt, seed }));
    const options = {
      sampler: config.sampler,
      scheduler,
      guidance: config.guidance.scale,
      latents,
    };
    for await (const batch of draw(networks, requests, options)) {
      const { rewards } = await mixture.evaluate(batch.images, batch.requests.map((r) => r.prompt));
      for (const [i, request] of batch.requests.entries()) {
        const file = `${path}/${out.length}.png`;
        await writeFile(join(this.folder.path, file), await encodePng(batch.images, i));
        const scores = Object.entries(rewards).map(([n, { perImage }]) => [n, perImage[i] ?? NaN]);
        out.push({ ...request, path: file, rewards: Object.fromEntries(scores) });
      }
    }
    return out;
  }

  async #save(at: Checkpoint, model: Model): Promise<void> {
    await writeCheckpoint(this.folder.checkpoints, at, await this.#provenance(model, at.step));
    await this.refresh();
    await this.#emit({ type: "checkpoint", step: at.step, at: this.#now() });
  }

  /** What a LoRA file of this run says about where it comes from, as its checkpoint was written. */
  async savedProvenance(step: number): Promise<Readonly<Record<string, string>>> {
    return await readProvenance(this.folder.checkpoints, step);
  }

  async #provenance(model: Model, step: number): Promise<Readonly<Record<string, string>>> {
    const terms = this.#mixtureOf(step);
    const digests = this.#events.findLast((e): e is StepEvent =>
      e.type === "step" && e.step === step
    );
    return {
      "drtune.base_model": this.config.model,
      "drtune.base_model_sha256": await model.digest(),
      "drtune.method": JSON.stringify(this.config.method),
      "drtune.rewards": JSON.stringify(
        terms.map(({ name, weight }) => ({
          name,
          weight,
          sha256: digests?.rewards[name]?.digest ?? "",
        })),
      ),
      "drtune.steps": String(step),
      "drtune.seed": String(this.config.seed),
    };
  }

  #mixtureOf(iteration: number): readonly RewardTerm[] {
    let rewards: readonly RewardTerm[] = this.config.rewards;
    for (const e of this.#events) if (e.type === "swap" && e.step < iteration) rewards = e.rewards;
    return rewards;
  }

  async #mixture(iteration: number): Promise<RewardMixture> {
    const terms = this.#mixtureOf(iteration);
    const connected = await Promise.all(
      terms.map(async (term): Promise<ConnectedTerm> => ({
        term,
        client: await this.#client(term, this.#stopping.signal),
      })),
    );
    return new RewardMixture(connected);
  }

  #client(term: RewardTerm, signal: AbortSignal): Promise<RewardClient> {
    const key = JSON.stringify([term.endpoint, term.reward, term.expectedDigest]);
    const known = this.#clients.get(key);
    if (known !== undefined) return known;
    const made = this.#dependencies.connect(term, signal);
    this.#clients.set(key, made);
    // A failed connection is tried again the next time.
    made.catch(() => this.#clients.delete(key));
    return made;
  }

  /**
   * Runs `work`, and while a reward is away pauses and tries again with growing waits. `undefined` when the run was
   * asked to stop meanwhile.
   */
  async #withPatience<T>(work: () => Promise<T>): Promise<T | undefined> {
    const longest = this.#dependencies.maxRetryMs ?? 10_000;
    for (let wait = 250;; wait = Math.min(2 * wait, longest)) {
      try {
        return await work();
      } catch (error) {
        if (this.#stopping.signal.aborted && error instanceof RewardUnavailableError) {
          return undefined;
        }
        if (!(error instanceof RewardUnavailableError)) throw error;
        if (this.state !== "paused") await this.setState("paused", error.message);
        await this.#disconnect();
        if (!await delay(wait, this.#stopping.signal)) return undefined;
      }
    }
  }

  async #disconnect(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    for (const client of clients) await client.then((c) => c.close()).catch(() => {});
  }

  #isDue(every: number, step: number): boolean {
    return every > 0 && step % every === 0;
  }

  #now(): string {
    return (this.#dependencies.now?.() ?? new Date()).toISOString();
  }

  async #emit(event: RunEvent): Promise<void> {
    // A step that went through ends a pause.
    if (event.type === "step" && this.state === "paused") await this.setState("running");
    await this.folder.append(event);
    this.#events.push(event);
    for (const wake of this.#watchers) wake();
  }
}

function toPhase(name: string): StepPhase {
  return name === "sample" || name === "decode" || name === "reward" ? name : "gradient";
}

/** True after `ms`, false as soon as `signal` is aborted. */
function delay(ms: number, signal: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(true), ms);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    resolve(false);
  }, { once: true });
  if (signal.aborted) {
    clearTimeout(timer);
    resolve(false);
  }
  return promise;
}
