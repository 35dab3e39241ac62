import { checkValue } from "../../base/mod.ts";
import type { RewardTerm } from "./run_config.ts";
import {
  type ChoiceEvent,
  type RunEvent,
  runEventSchema,
  type RunState,
  type StateEvent,
  type StepEvent,
} from "./run_events.ts";
import type { RunFolder } from "./run_folder.ts";
import type { RunRecorder } from "./run_recorder.ts";

const ENDED: ReadonlySet<RunState> = new Set(["stopped", "finished", "failed"]);
/** States that hold though they cannot be written: opened again, the folder comes to them or goes on. */
const UNWRITTEN: ReadonlySet<RunState> = new Set([...ENDED, "paused"]);
/** Events that stay in the log when what they tell of is done again. */
const KEPT: ReadonlySet<RunEvent["type"]> = new Set(["swap", "state", "save", "damage"]);

type Unstamped<E> = E extends unknown ? Omit<E, "at"> : never;

/** What happened in a run, in memory and in its folder, and who watches it happen. */
export class RunLog {
  readonly #folder: RunFolder;
  readonly #configured: readonly RewardTerm[];
  readonly #clock: () => Date;
  readonly #watchers = new Set<() => void>();
  /** Replaced, not cut, when events are taken back, so that watchers can tell. */
  #events: RunEvent[];
  #recorder: RunRecorder | undefined;

  constructor({ folder, events, rewards, now = () => new Date() }: {
    readonly folder: RunFolder;
    /** Those that the folder holds. */
    readonly events: readonly RunEvent[];
    /** The mixture that the run is configured with. */
    readonly rewards: readonly RewardTerm[];
    /** Present time. */
    readonly now?: (() => Date) | undefined;
  }) {
    this.#folder = folder;
    this.#events = [...events];
    this.#configured = rewards;
    this.#clock = now;
  }

  get events(): readonly RunEvent[] {
    return this.#events;
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

  /** What the run chose of its LoRAs, where it has not trained since. */
  get choice(): ChoiceEvent | undefined {
    const last = this.#events.findLast((e) => e.type === "choice" || e.type === "step");
    return last?.type === "choice" ? last : undefined;
  }

  /** The event of an iteration. */
  stepOf(step: number): StepEvent | undefined {
    return this.#events.findLast((e): e is StepEvent => e.type === "step" && e.step === step);
  }

  /** The mixture that an iteration is trained with, by the swaps so far: the same array for the same mixture. */
  mixtureOf(iteration: number): readonly RewardTerm[] {
    let rewards = this.#configured;
    for (const e of this.#events) if (e.type === "swap" && e.step < iteration) rewards = e.rewards;
    return rewards;
  }

  /**
   * Records an event as of now. It is seen at once and then written; one that cannot be written is taken back, unless
   * it is an end or a pause. Throws where it is none, as with numbers that are not finite.
   */
  async emit(given: Unstamped<RunEvent>): Promise<void> {
    const event = stamped(given, this.#clock().toISOString());
    this.#events.push(event);
    try {
      await this.#folder.append(event);
      this.#recorder?.record(event);
    } catch (error) {
      if (event.type === "state" && UNWRITTEN.has(event.state)) return;
      this.#events = this.#events.filter((e) => e !== event);
      throw error;
    } finally {
      this.#wake();
    }
  }

  /** Takes out what will be done again: the events of iterations after `step`. */
  async cutBeyond(step: number): Promise<void> {
    const kept = this.#events.filter((e) => KEPT.has(e.type) || e.step <= step);
    // First in memory: what happens while the log is written comes after it.
    this.#events = kept;
    this.#wake();
    await this.#folder.rewrite(kept);
  }

  /** Tells a recorder of each event from now on, until it is told otherwise; closes the one before. */
  async record(recorder: RunRecorder | undefined): Promise<void> {
    const before = this.#recorder;
    this.#recorder = recorder;
    await before?.close();
  }

  /**
   * The present state, then events from step `from` on, then new ones as they happen, until the run has ended. New
   * states are told whatever their step: a run may end before it. The present state comes again in its place where older
   * ones do, so that the last state told is the run's.
   */
  async *watch(from: number, signal?: AbortSignal): AsyncGenerator<RunEvent> {
    let events = this.#events;
    let recorded = events.length;
    const present = this.lastState;
    if (present !== undefined) yield present;
    let told = present;
    for (let at = 0;;) {
      for (let event = events[at]; event !== undefined; event = events[++at]) {
        const isNews = event.type === "state" && (at >= recorded || event === present);
        if (event === told || !(event.step >= from || from <= 1 || isNews)) continue;
        yield event;
        if (event.type === "state") told = event;
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

  #wake(): void {
    for (const wake of this.#watchers) wake();
  }
}

/** The event as the log is to hold it. JSON has no NaN and no infinity: such a line could never be read again. */
function stamped(given: Unstamped<RunEvent>, at: string): RunEvent {
  const checked = checkValue(runEventSchema, { ...given, at });
  if (checked.fault === undefined) return checked.data;
  const { path, message } = checked.fault;
  throw new Error(
    `Event ${given.type} of step ${given.step}: ${path.join(".") || "all"} ${message}`,
  );
}
