import type { StreamEvent } from "./api.ts";
import type {
  CheckpointEvent,
  DamageEvent,
  DigestEvent,
  PanelEvent,
  SampleReference,
  StateEvent,
  StepEvent,
  SwapEvent,
} from "./types.ts";

/** The samples drawn after one step. */
export interface SampledStep {
  readonly step: number;
  readonly samples: readonly SampleReference[];
}

/** What a run's events said, in order of steps. Taking an event again changes nothing. */
export class RunHistory {
  readonly steps: StepEvent[] = [];
  readonly samples: SampledStep[] = [];
  readonly swaps: SwapEvent[] = [];
  readonly panels: PanelEvent[] = [];
  readonly saves: CheckpointEvent[] = [];
  readonly checkpoints: CheckpointEvent[] = [];
  readonly damages: DamageEvent[] = [];
  readonly digests: DigestEvent[] = [];
  readonly states: StateEvent[] = [];

  /** Last step that arrived; 0 before the first. */
  get lastStep(): number {
    return this.steps.at(-1)?.step ?? 0;
  }

  /** Names of all rewards there ever were, in order of appearance. */
  readonly rewardNames = new Set<string>();

  take({ event, data }: StreamEvent): void {
    if (event === "step" && isStepEvent(data)) {
      // Step 0 is the model as it was: it has samples only.
      if (data.step > 0) insert(this.steps, data);
      for (const name of Object.keys(data.rewards)) this.rewardNames.add(name);
      if (data.samples.length > 0) {
        insert(this.samples, { step: data.step, samples: data.samples });
      }
    } else if (event === "swap" && isSwapEvent(data)) {
      pushNew(this.swaps, data);
    } else if (event === "panel" && isPanelEvent(data)) insert(this.panels, data);
    else if (event === "save" && hasStep(data)) insert(this.saves, data);
    else if (event === "checkpoint" && hasStep(data)) insert(this.checkpoints, data);
    else if (event === "damage" && isDamageEvent(data)) pushNew(this.damages, data);
    else if (event === "digest" && isDigestEvent(data)) pushNew(this.digests, data);
    else if (event === "state" && isStateEvent(data)) {
      // A stream begins with the present state, which comes again in its place.
      const known = this.states.some(({ state, at }) => state === data.state && at === data.at);
      if (data.at !== undefined && !known) this.states.push(data);
    }
  }

  /** The last step at or before this one. */
  at(step: number): StepEvent | undefined {
    return this.steps[lastAtMost(this.steps, step)];
  }
}

/** A curve: steps and values. */
export function curve<E extends { readonly step: number }>(
  events: readonly E[],
  value: (event: E) => number | string | undefined,
): [step: number, value: number][] {
  const points: [number, number][] = [];
  for (const event of events) {
    const found = value(event);
    if (found !== undefined) points.push([event.step, Number(found)]);
  }
  return points;
}

/** Puts an event at its step's place, or in place of the one there. A run that fell back repeats steps. */
function insert<E extends { readonly step: number }>(events: E[], event: E): void {
  const at = lastAtMost(events, event.step);
  if (events[at]?.step === event.step) events[at] = event;
  else events.splice(at + 1, 0, event);
}

/** Several may meet at one step; only a replay brings the same again. */
function pushNew<E>(events: E[], event: E): void {
  const text = JSON.stringify(event);
  if (!events.some((known) => JSON.stringify(known) === text)) events.push(event);
}

/** Index of the last event at or before this step; -1 where there is none. */
export function lastAtMost(events: readonly { readonly step: number }[], step: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((events[middle]?.step ?? 0) <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function hasStep(data: unknown): data is CheckpointEvent {
  return typeof data === "object" && data !== null && "step" in data;
}

function isStepEvent(data: unknown): data is StepEvent {
  return hasStep(data) && "rewards" in data && "samples" in data;
}

function isPanelEvent(data: unknown): data is PanelEvent {
  return hasStep(data) && "heldOut" in data;
}

function isSwapEvent(data: unknown): data is SwapEvent {
  return hasStep(data) && "rewards" in data;
}

function isStateEvent(data: unknown): data is StateEvent {
  return hasStep(data) && "state" in data;
}

function isDamageEvent(data: unknown): data is DamageEvent {
  return hasStep(data) && "movedTo" in data;
}

function isDigestEvent(data: unknown): data is DigestEvent {
  return hasStep(data) && "before" in data && "after" in data;
}
