import { denoiserOf, diffusersHeader } from "../../models/lora/mod.ts";
import type { AdaptedDenoiser } from "../model/mod.ts";
import type { Parameters } from "../tensors.ts";
import { traced } from "../traced.ts";
import { scoresIfThere } from "./_ask_rewards.ts";
import { changes, choiceRound, panelRound, watched } from "./_panel_round.ts";
import { DriftReference } from "./_drift_reference.ts";
import { Gallery, type Scoring } from "./_gallery.ts";
import { iterate } from "./_iterate.ts";
import { IterationImages } from "./_iteration_images.ts";
import { givenUp, goOn } from "./_interruption.ts";
import { InterruptedError } from "./_patience.ts";
import {
  type Boundary,
  bringForward,
  decidedEnd,
  doneOf,
  type End,
  pendingAt,
} from "./_pending.ts";
import { PromptsAhead } from "./_prompts_ahead.ts";
import { provenance } from "./_provenance.ts";
import type { Restored } from "./_restore.ts";
import type { LoopRun } from "./_loop_run.ts";
import { ownShards, workersShards } from "./_shard_computation.ts";
import { type Checkpoint, listCheckpoints, loraOf, writeCheckpoint } from "./checkpoint.ts";
import type { OpenedModel } from "./opened_model.ts";
import type { RewardTerm } from "./run_config.ts";
import type { SampleReference, StepEvent } from "./run_events.ts";
import type { RunLog } from "./run_log.ts";

/** Iterations whose median time says how long the rest takes. */
const PACE_WINDOW = 20;

/** A run that trains. */
export class TrainingLoop {
  readonly #run: LoopRun;
  readonly #opened: OpenedModel;
  readonly #gallery: Gallery;
  readonly #ahead: PromptsAhead;
  /** Holds the parameters of the present iteration. */
  readonly #denoiser: AdaptedDenoiser;
  readonly #reference: DriftReference;
  readonly #startDigest: string | undefined;

  private constructor(
    run: LoopRun,
    { opened, denoiser, reference, startDigest }: {
      readonly opened: OpenedModel;
      readonly denoiser: AdaptedDenoiser;
      readonly reference: DriftReference;
      readonly startDigest: string | undefined;
    },
  ) {
    this.#run = run;
    this.#opened = opened;
    this.#gallery = new Gallery(opened, { config: run.config, folder: run.folder.path });
    const { config, log, progress } = run;
    this.#ahead = new PromptsAhead(opened.model, {
      config,
      isInterrupted: () => progress.end !== undefined || run.giveUp.aborted,
      say: async (reason) => {
        // A stop that came meanwhile is not undone.
        if (log.state !== "running") return;
        await log.emit({ type: "state", state: "running", reason, ...doneOf(progress) });
      },
    });
    this.#denoiser = denoiser;
    this.#reference = reference;
    this.#startDigest = startDigest;
  }

  /**
   * Trains from where `restored` says until all is done, or until the run is asked to end or decides to. Answers how it
   * ends; nothing where all is done. `onFirst` is told of the first iteration done.
   */
  static async train(
    run: LoopRun,
    { opened, restored: { at, startDigest }, onFirst }: {
      readonly opened: OpenedModel;
      readonly restored: Restored;
      readonly onFirst: () => Promise<unknown>;
    },
  ): Promise<End | undefined> {
    const { model } = opened;
    const denoiser = await model.adapt(at.parameters);
    const reference = new DriftReference(model, run.config);
    try {
      await reference.become(at);
      const loop = new TrainingLoop(run, { opened, denoiser, reference, startDigest });
      return await loop.#train(at, onFirst);
    } finally {
      // What is given up still computes: it ends with the model.
      if (!run.giveUp.aborted) {
        await denoiser.release().catch(() => {});
        await reference.release();
      }
    }
  }

  async #train(start: Checkpoint, onFirst: () => Promise<unknown>): Promise<End | undefined> {
    const { config, log, progress } = this.#run;
    let at = start;
    let mixture = log.mixtureOf(at.step + 1);
    try {
      await this.#ahead.prepare(at.step, progress.iterations);
      if (at.step === 0) await this.#showBefore(at.parameters, mixture);
      for (;;) {
        const { step } = at;
        const asked = pendingAt({ step, mixture }, this.#run);
        if (asked.save) await this.#save(at);
        if (asked.swap !== undefined) mixture = await this.#swap(asked.swap);
        if (asked.end !== undefined) break;
        if (asked.panel) {
          await this.#measurePanel(at, mixture);
          continue;
        }
        if (step >= progress.iterations) break;
        await this.#ahead.prepare(step, progress.iterations);
        at = await this.#advance(at, mixture);
        // Whatever ends the run later, the first iteration has shown what one takes.
        if (step === start.step && at.step > step) await onFirst();
      }
      await this.#save(at);
      const isChosen = await this.#choose(at, mixture);
      // Who asked for an end before there was a choice may want it later.
      if (!isChosen && progress.end !== undefined) return progress.end;
      if (at.step >= progress.iterations) return undefined;
      return decidedEnd(config, log) ?? progress.end;
    } catch (error) {
      // What is done is kept, if the disk allows.
      await this.#save(at).catch(() => {});
      throw error;
    }
  }

  /** Trains with another mixture from here on; the connections that it does not need are closed. */
  async #swap(mixture: readonly RewardTerm[]): Promise<readonly RewardTerm[]> {
    const { clients, config } = this.#run;
    await clients.keep([...mixture, ...watched(config, mixture)]);
    return mixture;
  }

  /** One iteration and its event; where it is interrupted, the state it began with. */
  async #advance(at: Checkpoint, mixture: readonly RewardTerm[]): Promise<Checkpoint> {
    const { id, log, progress } = this.#run;
    const step = progress.iterating = at.step + 1;
    const boundary = { step: at.step, mixture };
    try {
      const { next, facts, samples } = await givenUp(
        this.#run,
        traced("step", () => this.#computed(at, boundary), {
          attributes: { "drtune.run": id, "drtune.step": step },
          root: true,
        }),
      );
      for (const { digest, ...change } of changedDigests(log, { step, rewards: facts.rewards })) {
        await log.emit({ type: "digest", step: at.step, ...change, after: digest });
      }
      const secondsLeft = pace(log, facts) * (progress.iterations - step);
      await log.emit({ type: "step", step, ...facts, secondsLeft, samples });
      progress.step = step;
      return next;
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
      if (progress.end === undefined) {
        await bringForward(boundary, this.#run);
        await goOn(this.#run);
      }
      return at;
    } finally {
      progress.iterating = undefined;
    }
  }

  async #computed(at: Checkpoint, boundary: Boundary) {
    const { config, workers } = this.#run;
    const cpuBefore = await this.#opened.cpuSeconds?.();
    const isShown = (at.step + 1) % (config.sampleEvery || Infinity) === 0;
    // Those that workers compute stay with them.
    const images = new IterationImages(this.#run.folder.path, at.step + 1);
    const compute = workers === undefined
      ? ownShards(this.#run, {
        ...{ boundary, opened: this.#opened },
        ...{ denoiser: this.#denoiser, frozen: this.#reference.denoiser },
        ...isShown && { onImages: images.take.bind(images) },
      })
      : workersShards(this.#run, { workers, boundary, at });
    const { next, facts } = await iterate({ at, config, compute });
    const { step } = next;
    await this.#denoiser.update(next.parameters);
    if (next.reference !== at.reference) await this.#reference.become(next);
    const cpuAfter = await this.#opened.cpuSeconds?.();
    const spent = cpuBefore !== undefined && cpuAfter !== undefined
      ? { cpuSeconds: cpuAfter - cpuBefore + (facts.cpuSeconds ?? 0) }
      : {};
    if (!isShown) return { next, facts: { ...facts, ...spent }, samples: [] };
    const samples = await traced(
      "pictures",
      () => this.#show(loraOf(next), { step, mixture: boundary.mixture }),
    );
    return { next, facts: { ...facts, ...spent, images: await images.write() }, samples };
  }

  /** A step 0 in the log, with pictures of the model as it is before training. */
  async #showBefore(parameters: Parameters, mixture: readonly RewardTerm[]): Promise<void> {
    const { config, log } = this.#run;
    if (config.sampleEvery === 0 || log.stepOf(0) !== undefined) return;
    const facts = { loss: 0, gradNorm: 0, rewards: {}, seconds: {}, secondsLeft: 0 };
    try {
      const samples = await givenUp(this.#run, this.#show(parameters, { step: 0, mixture }));
      await log.emit({ type: "step", step: 0, ...facts, samples, prompts: [], plans: [] });
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
    }
  }

  /** Sample pictures. Training does not wait for a reward that is away: they have no scores then. */
  #show(
    parameters: Parameters,
    { step, mixture }: { readonly step: number; readonly mixture: readonly RewardTerm[] },
  ): Promise<SampleReference[]> {
    const score = scoresIfThere(this.#run, mixture);
    return this.#gallery.pictures(parameters, { step, score });
  }

  /** Measures the panel once. What is asked for meanwhile interrupts a wait for rewards. */
  async #measurePanel(at: Checkpoint, mixture: readonly RewardTerm[]): Promise<void> {
    try {
      const measure = (score: Scoring) => givenUp(this.#run, this.#measured(at, score));
      await panelRound(this.#run, { step: at.step, mixture, measure });
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
      await goOn(this.#run);
    }
  }

  /**
   * Chooses the LoRA to take, where the configuration asks for that and the run has come to its end. Answers whether
   * there is nothing left to choose.
   */
  async #choose(at: Checkpoint, mixture: readonly RewardTerm[]): Promise<boolean> {
    const { config: { panel }, log, progress } = this.#run;
    if (at.step === 0 || panel.scales.length === 0 || log.choice !== undefined) return true;
    if (progress.end !== undefined) return false;
    try {
      const measure = (scale: number, score: Scoring) =>
        givenUp(this.#run, this.#measured(at, score, scale));
      await choiceRound(this.#run, { step: at.step, mixture, measure });
      return true;
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
      return false;
    }
  }

  /** What the panel says of the LoRA that a checkpoint is for. */
  async #measured(at: Checkpoint, score: Scoring, scale = 1) {
    if (at.average === undefined && scale === 1) {
      return await this.#gallery.measure(this.#denoiser, score);
    }
    const denoiser = await this.#opened.model.adapt(loraOf(at), { scale });
    try {
      return await this.#gallery.measure(denoiser, score);
    } finally {
      await denoiser.release().catch(() => {});
    }
  }

  async #save(at: Checkpoint): Promise<void> {
    const { folder: { checkpoints }, config, log, progress } = this.#run;
    const { model } = this.#opened;
    if (at.step === 0 || progress.checkpoints.includes(at.step)) return;
    await writeCheckpoint(checkpoints, at, {
      metadata: await provenance(at.step, { config, log, model, startDigest: this.#startDigest }),
      header: diffusersHeader(config.lora, denoiserOf(Object.keys(at.parameters))),
    });
    progress.checkpoints = await listCheckpoints(checkpoints);
    await log.emit({ type: "checkpoint", step: at.step });
  }
}

/** Seconds per iteration lately: the median, for the first one and those with pictures take longer. */
function pace({ events }: RunLog, { seconds }: Pick<StepEvent, "seconds">): number {
  const recent = events.slice(-2 * PACE_WINDOW).flatMap((e) =>
    e.type === "step" ? e.seconds.total ?? [] : []
  ).concat(seconds.total ?? 0).slice(-PACE_WINDOW).sort((a, b) => a - b);
  return recent[recent.length >> 1] ?? 0;
}

/** Rewards of an iteration that answered with other weights than in the one before, under the same mixture. */
function changedDigests(
  log: RunLog,
  { step, rewards }: Pick<StepEvent, "step" | "rewards">,
) {
  const before = log.stepOf(step - 1);
  const isSame = log.mixtureOf(step - 1) === log.mixtureOf(step);
  return before && isSame ? changes(before.rewards, rewards) : [];
}
