import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { diffusersHeader, type LoadedLora } from "../../models/lora/mod.ts";
import { initAdamW } from "../optim/mod.ts";
import type { AdaptedDenoiser, LatentSize, Model } from "../model/mod.ts";
import type { RunPlan } from "../plan/mod.ts";
import { traced } from "../traced.ts";
import type { SchedulerConfig } from "../samplers/mod.ts";
import type { Evaluation } from "../step/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import {
  type Checkpoint,
  listCheckpoints,
  moveAside,
  newestCheckpoint,
  readProvenance,
  removeAttempts,
  writeCheckpoint,
} from "./checkpoint.ts";
import { iterate } from "./_iterate.ts";
import { comparable, measurePanel } from "./_measure_panel.ts";
import { InterruptedError, Patience } from "./_patience.ts";
import { findAlarm } from "./panel.ts";
import { draw, encodePng } from "./pictures.ts";
import { planReport, reportText, writePlanReport } from "./plan_report.ts";
import {
  type ConnectedTerm,
  type RewardClient,
  RewardMixture,
  RewardUnavailableError,
} from "./reward_mixture.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import { CheckpointError, RunStateError } from "./run_errors.ts";
import type { RunEvent, RunState, SampleReference, StateEvent, StepEvent } from "./run_events.ts";
import type { RunFolder } from "./run_folder.ts";
import type { RecordedRun, RunRecorder } from "./run_recorder.ts";

/** A model opened for a run. */
export interface OpenedModel {
  readonly model: Model;
  readonly scheduler: SchedulerConfig;
  /** Of the latents: the configuration's, or the U-Net's own size. */
  readonly latents: LatentSize & { readonly channels: number };
  /** Reads the LoRA that the run starts from, where the configuration names one. */
  readonly readStart?: () => Promise<LoadedLora>;
  /** Estimates what an iteration takes; absent where nothing can. */
  readonly plan?: () => Promise<RunPlan>;
  /** Most bytes that running the model has taken so far: resident ones of its process, or the GPU's. */
  readonly peakMemory?: () => Promise<number | undefined>;
  release(): Promise<void>;
}

/** What a run needs from outside. */
export interface RunDependencies {
  openModel(config: RunConfig): Promise<OpenedModel>;
  /** Throws `RewardUnavailableError` where the service does not answer. */
  connect(term: RewardTerm, signal: AbortSignal): Promise<RewardClient>;
  /** Refuses a configuration whose rewards answer and are not those wanted. Not asked of a run that is there. */
  readonly admit?: (config: RunConfig) => Promise<void>;
  /** Checks a configuration, also against its model's files. Default: `parseRunConfig`. */
  readonly prepare?: (value: unknown) => Promise<RunConfig>;
  /** Begins a record of a run beside its log. */
  readonly record?: (run: RecordedRun) => Promise<RunRecorder>;
  /** Present time. */
  readonly now?: () => Date;
  /** Longest wait between two tries of a reward that is away, in milliseconds. Default 10,000. */
  readonly maxRetryMs?: number;
}

/** Sample pictures drawn each time. */
const SAMPLE_LIMIT = 8;
/** Iterations whose mean time says how long the rest takes. */
const PACE_WINDOW = 20;
const CONNECT_MS = 30_000;
/** Events that stay in the log when what they tell of is done again. */
const KEPT: ReadonlySet<RunEvent["type"]> = new Set(["swap", "state", "save", "damage"]);
const ENDED: ReadonlySet<RunState> = new Set(["stopped", "finished", "failed"]);

/** One run: trains in the background, answers questions about itself, and goes on from its folder. */
export class TrainingRun {
  readonly id: string;
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly createdAt: string;
  readonly #dependencies: RunDependencies;
  readonly #patience: Patience;
  readonly #clients = new Map<string, Promise<RewardClient>>();
  readonly #watchers = new Set<() => void>();
  /** Replaced, not cut, when events are taken back, so that watchers can tell. */
  #events: RunEvent[];
  #iterations: number;
  #step: number;
  #checkpoints: readonly number[] = [];
  #recorder: RunRecorder | undefined;
  /** The iteration in progress. */
  #iterating: number | undefined;
  /** How the run is to end before its time, and why where there is something to say. */
  #ending: "stopped" | "queued" | undefined;
  #endingReason = "";
  /** sha256 of the LoRA file it started from. */
  #startDigest: string | undefined;

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
    this.#iterations = this.lastState?.iterations ?? config.iterations;
    this.#step = this.latest?.step ?? 0;
    this.#patience = new Patience({
      longest: dependencies.maxRetryMs ?? 10_000,
      away: async (reason) => {
        // A stop that was asked for goes first.
        if (this.#ending === undefined) await this.setState("paused", reason);
      },
      back: async () => {
        if (this.state === "paused") await this.setState("running");
      },
    });
  }

  get events(): readonly RunEvent[] {
    return this.#events;
  }
  /** Iterations done. */
  get step(): number {
    return this.#step;
  }
  /** Iterations to do. */
  get iterations(): number {
    return this.#iterations;
  }
  /** Steps that have a checkpoint, ascending. */
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
  /** Whether nothing more will happen unless the run is taken back. */
  get ended(): boolean {
    return ENDED.has(this.state);
  }
  /** The mixture of the next iteration to begin. */
  get rewards(): readonly RewardTerm[] {
    return this.#mixtureOf((this.#iterating ?? this.#step) + 1);
  }

  /** Reads which checkpoints there are. */
  async refresh(): Promise<void> {
    this.#checkpoints = await listCheckpoints(this.folder.checkpoints);
  }

  /**
   * The present state, then events from step `from` on, then new ones as they happen, until the run has ended. New
   * states are told whatever their step: a run may end before it.
   */
  async *watch(from: number, signal?: AbortSignal): AsyncGenerator<RunEvent> {
    let events = this.#events;
    let recorded = events.length;
    const present = this.lastState;
    if (present !== undefined) yield present;
    for (let at = 0;;) {
      for (let event = events[at]; event !== undefined; event = events[++at]) {
        const isNews = event.type === "state" && at >= recorded;
        if (event !== present && (event.step >= from || from <= 1 || isNews)) yield event;
      }
      if (events !== this.#events) {
        const last = events.slice(0, at).findLast((e) => this.#events.includes(e));
        events = this.#events;
        recorded = at = last === undefined ? 0 : events.indexOf(last) + 1;
        continue;
      }
      if (this.ended) return;
      signal?.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = () => resolve();
      this.#watchers.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
      await promise;
      signal?.removeEventListener("abort", wake);
      this.#watchers.delete(wake);
    }
  }

  /** Puts the run into a state, in the log too. */
  async setState(state: RunState, reason = ""): Promise<void> {
    const [step, iterations] = [this.#step, this.#iterations];
    await this.#emit({ type: "state", state, reason, step, iterations, at: this.#now() });
  }

  /** Asks the run to finish its step, write a checkpoint and stop. */
  async stop(): Promise<void> {
    if (this.ended || this.#ending === "stopped") return;
    const waiting = this.state === "queued";
    this.#ending = "stopped";
    await this.setState(waiting ? "stopped" : "stopping");
    this.#patience.wake();
  }

  /** Like `stop`, but the run is to go on later: it ends as queued. */
  suspend(): void {
    this.#ending ??= "queued";
    this.#patience.wake();
  }

  /** Takes a run back that has ended or was interrupted, with another number of iterations if asked. */
  async requeue(iterations = this.#iterations): Promise<void> {
    this.#iterations = Math.max(iterations, this.#step);
    this.#ending = undefined;
    this.#endingReason = "";
    await this.setState("queued");
  }

  /**
   * Changes the mixture from the next iteration on, once the new rewards have answered; an iteration that waits for a
   * reward begins again with the new mixture. Returns how many iterations are done under the old one.
   */
  async swap(rewards: readonly RewardTerm[]): Promise<number> {
    await Promise.all(rewards.map((term) => this.#client(term, AbortSignal.timeout(CONNECT_MS))));
    const step = this.#boundary();
    await this.#emit({ type: "swap", step, rewards, at: this.#now() });
    this.#patience.wake();
    return step;
  }

  /**
   * Asks for a checkpoint at the next step boundary; an iteration that waits for a reward is given up for it and begins
   * again. Returns how many iterations the checkpoint will hold. Throws `RunStateError` where the run does not train.
   */
  async save(): Promise<number> {
    if (this.ended || this.state === "queued") {
      throw new RunStateError(`Run "${this.id}" is ${this.state}: there is nothing to save`);
    }
    // Before the first iteration there is nothing that its configuration does not say.
    const step = Math.max(1, this.#boundary());
    await this.#emit({ type: "save", step, at: this.#now() });
    this.#patience.wake();
    return step;
  }

  /** Trains until it is done, stopped or failed. Never throws: what went wrong is in the state. */
  async execute(): Promise<void> {
    let opened: OpenedModel | undefined;
    try {
      await this.setState("running");
      opened = await this.#dependencies.openModel(this.config);
      const { prompts, heldOutPrompts } = this.config;
      const remark = opened.model.prompts.remark?.([...new Set([...prompts, ...heldOutPrompts])]);
      if (remark !== undefined && this.#ending === undefined) {
        await this.setState("running", remark);
      }
      await this.#train(opened);
    } catch (error) {
      await this.setState("failed", error instanceof Error ? error.message : String(error));
    } finally {
      await opened?.release().catch(() => {});
      await this.#disconnect();
      await this.#recorder?.close();
      this.#recorder = undefined;
    }
  }

  async #train(opened: OpenedModel): Promise<void> {
    const { model } = opened;
    let at = await this.#restore(opened);
    const from = at.step;
    // A run does not end for want of an estimate.
    const plan = await opened.plan?.().catch(() => undefined);
    const { id, config, folder: { path: folder }, events } = this;
    /** Compares the estimate with what was measured so far, in the folder too. */
    const reported = async () => {
      const bytes = await opened.peakMemory?.();
      const report = plan && planReport(plan, { bytes, events: this.#events, from });
      if (report !== undefined) await writePlanReport(folder, report);
      return report;
    };
    await reported();
    this.#recorder = await this.#dependencies.record?.({
      ...{ id, config, folder, events },
      step: at.step,
    });
    const denoiser = await model.adapt(at.parameters);
    const frozen = this.config.drift.weight > 0
      ? await model.adapt(at.parameters, { scale: 0 })
      : undefined;
    try {
      if (at.step === 0) await this.#showBefore(opened, at.parameters);
      for (;;) {
        const isWatched = await this.#watchPanel(opened, { step: at.step, denoiser });
        if (this.#isSaveDue(at.step)) await this.#save(at, model);
        if (!isWatched) continue;
        if (at.step >= this.#iterations || this.#ending !== undefined) break;
        const before = at;
        at = await traced("step", () => this.#advance(opened, { at: before, denoiser, frozen }), {
          attributes: { "drtune.run": id, "drtune.step": before.step + 1 },
          root: true,
        });
        // Whatever ends the run later, the first iteration has shown what one takes.
        if (before.step === from && at.step > from) await reported();
      }
      await this.#save(at, model);
    } catch (error) {
      // What is done is kept, if the disk allows.
      await this.#save(at, model).catch(() => {});
      throw error;
    } finally {
      await denoiser.release().catch(() => {});
      await frozen?.release().catch(() => {});
    }
    const report = await reported();
    const cost = report === undefined ? "" : reportText(report);
    if (at.step >= this.#iterations) await this.setState("finished", cost);
    else if (this.#ending === "queued") await this.setState("queued", "The server was stopped");
    else await this.setState("stopped", this.#endingReason);
  }

  /** The newest checkpoint, or the beginning; the log loses what will be done again. */
  async #restore({ model, readStart }: OpenedModel): Promise<Checkpoint> {
    const { checkpoints } = this.folder;
    const newest = await newestCheckpoint(checkpoints);
    const found = newest?.checkpoint;
    const step = found?.step ?? 0;
    const lost = this.#events.findLast((e) => e.type === "checkpoint");
    if (found === undefined && lost !== undefined) {
      throw new CheckpointError(
        `Folder ${checkpoints} is empty, expected the checkpoint of step ${lost.step}`,
      );
    }
    for (const { step, reason } of newest?.damaged ?? []) {
      const movedTo = `checkpoints/${await moveAside(checkpoints, step)}`;
      await this.#emit({ type: "damage", step, reason, movedTo, at: this.#now() });
    }
    await removeAttempts(checkpoints);
    await this.refresh();
    const kept = this.#events.filter((e) => KEPT.has(e.type) || e.step <= step);
    this.#step = step;
    // First in memory: what happens while the log is written comes after it.
    this.#events = kept;
    this.#wakeWatchers();
    await this.folder.rewrite(kept);
    if (found === undefined) {
      const start = await readStart?.();
      this.#startDigest = start?.sha256;
      const parameters = start?.lora.tensors ?? model.initialParameters(this.config.seed);
      return { step, parameters, optimizer: initAdamW(parameters) };
    }
    const before = await readProvenance(checkpoints, step);
    this.#startDigest = before[START_DIGEST];
    if (before[MODEL_DIGEST] === await model.digest()) return found;
    throw new Error(
      `The weights of model ${this.config.model} are not those of checkpoint ${step}`,
    );
  }

  /** One iteration and its event; where it was interrupted, the state it began with. */
  async #advance(
    opened: OpenedModel,
    { at, denoiser, frozen }: {
      readonly at: Checkpoint;
      readonly denoiser: AdaptedDenoiser;
      readonly frozen: AdaptedDenoiser | undefined;
    },
  ): Promise<Checkpoint> {
    const { config } = this;
    const step = this.#iterating = at.step + 1;
    const terms = this.#mixtureOf(step);
    const isWanted = () =>
      this.#ending !== undefined || this.#mixtureOf(step + 1) !== terms || this.#isSaveDue(at.step);
    try {
      const { next, facts } = await iterate(opened, {
        at,
        config,
        denoiser,
        frozen,
        reward: {
          evaluate: (images, prompts) =>
            this.#patience.until(() => this.#evaluate(terms, { images, prompts }), { isWanted }),
        },
      });
      await denoiser.update(next.parameters);
      const samples = step % (config.sampleEvery || Infinity) === 0
        ? await traced("pictures", () => this.#show(opened, { parameters: next.parameters, step }))
        : [];
      const secondsLeft = this.#pace(facts) * (this.#iterations - step);
      await this.#emit({ type: "step", step, ...facts, secondsLeft, samples, at: this.#now() });
      this.#step = step;
      return next;
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
      if (this.#ending === undefined) {
        // A swap that was to come after this iteration comes before it.
        const rewards = this.#mixtureOf(step + 1);
        if (rewards !== this.#mixtureOf(step)) {
          await this.#emit({ type: "swap", step: at.step, rewards, at: this.#now() });
        }
        await this.setState("running");
      }
      return at;
    } finally {
      this.#iterating = undefined;
    }
  }

  /** Seconds per iteration lately: the median, for the first one and those with pictures take longer. */
  #pace({ seconds }: Pick<StepEvent, "seconds">): number {
    const recent = this.#events.slice(-2 * PACE_WINDOW).flatMap((e) =>
      e.type === "step" ? e.seconds.total ?? [] : []
    ).concat(seconds.total ?? 0).slice(-PACE_WINDOW).sort((a, b) => a - b);
    return recent[recent.length >> 1] ?? 0;
  }

  /** A step 0 in the log, with pictures of the model as it is before training. */
  async #showBefore(opened: OpenedModel, parameters: Parameters): Promise<void> {
    if (this.config.sampleEvery === 0) return;
    if (this.#events.some((e) => e.type === "step" && e.step === 0)) return;
    const samples = await this.#show(opened, { parameters, step: 0 });
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
      plans: [],
      at: this.#now(),
    });
  }

  /** Draws the held-out prompts at fixed seeds. Training does not wait for a reward that is away. */
  async #show(
    { model, scheduler, latents }: OpenedModel,
    { parameters, step }: { readonly parameters: Parameters; readonly step: number },
  ): Promise<SampleReference[]> {
    const { heldOutPrompts, sampler, guidance, lora } = this.config;
    const path = `samples/step-${String(step).padStart(6, "0")}`;
    await mkdir(join(this.folder.path, path), { recursive: true });
    const denoiser = await model.adapt(parameters, { scale: lora.sampleScale });
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    const requests = heldOutPrompts.slice(0, SAMPLE_LIMIT).map((prompt, seed) => ({
      prompt,
      seed,
    }));
    const options = { sampler, scheduler, guidance: guidance.scale, latents };
    const out: SampleReference[] = [];
    try {
      for await (const { requests: part, images } of draw(networks, requests, options)) {
        const prompts = part.map((r) => r.prompt);
        const scores = await this.#mixture(this.#mixtureOf(Math.max(1, step)))
          .then((mixture) => mixture.score(images, prompts))
          .catch((error) => {
            if (error instanceof RewardUnavailableError) return {};
            throw error;
          });
        for (const [i, request] of part.entries()) {
          const file = `${path}/${out.length}.png`;
          await writeFile(join(this.folder.path, file), await encodePng(images, i));
          const rewards = Object.entries(scores).map((
            [n, { perImage }],
          ) => [n, perImage[i] ?? NaN]);
          out.push({ ...request, path: file, rewards: Object.fromEntries(rewards) });
        }
      }
    } finally {
      await denoiser.release().catch(() => {});
    }
    return out;
  }

  /**
   * Measures the panel where it is due, once per step; an alarm may end the run. Waits for rewards that are away;
   * false where that was interrupted.
   */
  async #watchPanel(
    opened: OpenedModel,
    { step, denoiser }: { readonly step: number; readonly denoiser: AdaptedDenoiser },
  ): Promise<boolean> {
    const { panel } = this.config;
    if (panel.every === 0 || step % panel.every !== 0 || this.#ending !== undefined) return true;
    // Measurements of another mixture say nothing about this one.
    const since = this.#events.findLastIndex((e) => e.type === "swap") + 1;
    const before = this.#events.slice(since).filter((e) => e.type === "panel");
    if (before.some((e) => e.step === step)) return true;
    const mixture = this.#mixtureOf(step + 1);
    const isWanted = () =>
      this.#ending !== undefined || this.#mixtureOf(step + 1) !== mixture || this.#isSaveDue(step);
    const more = panel.rewards.filter(({ name }) => !mixture.some((term) => term.name === name));
    const terms = [...mixture, ...more.map((reward) => ({ ...reward, weight: 0 }))];
    try {
      await this.#patience.until(async () => {
        const connected = await this.#connected(terms);
        const { config } = this;
        const found = await measurePanel(opened, { config, denoiser, terms: connected })
          .catch(this.#forget);
        if (this.#mixtureOf(step + 1) !== mixture) throw new InterruptedError("Rewards swapped");
        const alarm = findAlarm(
          comparable({ step, ...found }, connected),
          before.map((e) => comparable(e, connected)),
          panel,
        );
        const heldOut = terms.filter(({ weight }) => weight === 0).map(({ name }) => name);
        await this.#emit({ type: "panel", step, ...found, heldOut, alarm, at: this.#now() });
        if (alarm !== "" && panel.stop) {
          this.#ending ??= "stopped";
          this.#endingReason = alarm;
        }
      }, { isWanted });
      return true;
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
      if (this.#ending === undefined && this.state === "paused") await this.setState("running");
      return false;
    }
  }

  /**
   * Whether a step lacks the checkpoint it is to have: at the interval, where one was asked for, and where the mixture
   * changes, so that what came before needs no reward that has gone.
   */
  #isSaveDue(step: number): boolean {
    if (step === 0 || this.#checkpoints.includes(step)) return false;
    return step % (this.config.checkpointEvery || Infinity) === 0 ||
      this.#events.some((e) => (e.type === "swap" || e.type === "save") && e.step === step);
  }

  /** The step after which what is asked for now takes effect: a reward that is away is not waited for. */
  #boundary(): number {
    return this.state === "paused" ? this.#step : this.#iterating ?? this.#step;
  }

  async #save(at: Checkpoint, model: Model): Promise<void> {
    if (at.step === 0 || this.#checkpoints.includes(at.step)) return;
    await writeCheckpoint(this.folder.checkpoints, at, {
      metadata: await this.#provenance(model, at.step),
      header: diffusersHeader(this.config.lora),
    });
    await this.refresh();
    await this.#emit({ type: "checkpoint", step: at.step, at: this.#now() });
  }

  /** What a LoRA file of this run says about where it comes from, as its checkpoint was written. */
  async savedProvenance(step: number): Promise<Readonly<Record<string, string>>> {
    return await readProvenance(this.folder.checkpoints, step);
  }

  async #provenance(model: Model, step: number): Promise<Readonly<Record<string, string>>> {
    const event = this.#events.findLast((e): e is StepEvent =>
      e.type === "step" && e.step === step
    );
    return {
      "drtune.base_model": this.config.model,
      [MODEL_DIGEST]: await model.digest(),
      "drtune.method": JSON.stringify(this.config.method),
      "drtune.rewards": JSON.stringify(
        this.#mixtureOf(step).map(({ name, weight }) => ({
          name,
          weight,
          sha256: event?.rewards[name]?.digest ?? "",
        })),
      ),
      "drtune.sampler": JSON.stringify(this.config.sampler),
      "drtune.guidance": JSON.stringify(this.config.guidance),
      "drtune.steps": String(step),
      "drtune.seed": String(this.config.seed),
      ...(this.#startDigest !== undefined && { [START_DIGEST]: this.#startDigest }),
    };
  }

  #mixtureOf(iteration: number): readonly RewardTerm[] {
    let rewards: readonly RewardTerm[] = this.config.rewards;
    for (const e of this.#events) if (e.type === "swap" && e.step < iteration) rewards = e.rewards;
    return rewards;
  }

  async #connected(terms: readonly RewardTerm[]): Promise<readonly ConnectedTerm[]> {
    const signal = AbortSignal.timeout(CONNECT_MS);
    return await Promise.all(
      terms.map(async (term) => ({ term, client: await this.#client(term, signal) })),
    );
  }

  async #mixture(terms: readonly RewardTerm[]): Promise<RewardMixture> {
    return new RewardMixture(await this.#connected(terms));
  }

  async #evaluate(
    terms: readonly RewardTerm[],
    { images, prompts }: { readonly images: Float32Tensor; readonly prompts: readonly string[] },
  ): Promise<Evaluation> {
    return await this.#mixture(terms)
      .then((mixture) => mixture.evaluate(images, prompts))
      .catch(this.#forget);
  }

  /** After a failure the rewards are asked for their facts again: what comes back may be another. */
  readonly #forget = async (error: unknown): Promise<never> => {
    await this.#disconnect();
    throw error;
  };

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

  async #disconnect(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    for (const client of clients) await client.then((c) => c.close()).catch(() => {});
  }

  #now(): string {
    return (this.#dependencies.now?.() ?? new Date()).toISOString();
  }

  /** An event is seen at once and then written; one that cannot be written is taken back, unless it is an end. */
  async #emit(event: RunEvent): Promise<void> {
    this.#events.push(event);
    try {
      await this.folder.append(event);
      this.#recorder?.record(event);
    } catch (error) {
      if (event.type === "state" && ENDED.has(event.state)) return;
      this.#events = this.#events.filter((e) => e !== event);
      throw error;
    } finally {
      this.#wakeWatchers();
    }
  }

  #wakeWatchers(): void {
    for (const wake of this.#watchers) wake();
  }
}

const MODEL_DIGEST = "drtune.base_model_sha256";
const START_DIGEST = "drtune.start_lora_sha256";
