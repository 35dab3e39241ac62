import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { RunState as Wire } from "../../proto/mod.ts";
import type { ChoiceEvent, RunEvent, RunState, StepEvent, TrainingRun } from "../../trainer/mod.ts";
import { type PromptsShown, toWireConfig, toWireTerm } from "./wire_config.ts";

const STATES = {
  queued: Wire.QUEUED,
  running: Wire.RUNNING,
  paused: Wire.PAUSED,
  stopping: Wire.STOPPING,
  stopped: Wire.STOPPED,
  finished: Wire.FINISHED,
  failed: Wire.FAILED,
} as const satisfies Record<RunState, Wire>;

const at = (time: string) => timestampFromDate(new Date(time));

const toWireMetrics = (rewards: StepEvent["rewards"]) =>
  Object.fromEntries(
    Object.entries(rewards).map(([n, { mean, perImage, digest }]) => [
      n,
      { mean, perImage: [...perImage], digest },
    ]),
  );

/** A step on the wire. */
export function toWireStep(step: StepEvent) {
  return {
    step: step.step,
    loss: step.loss,
    gradNorm: step.gradNorm,
    ...(step.drift !== undefined && { drift: step.drift }),
    rewards: toWireMetrics(step.rewards),
    seconds: { ...step.seconds },
    ...(step.cpuSeconds !== undefined && { cpuSeconds: step.cpuSeconds }),
    secondsLeft: step.secondsLeft,
    samples: step.samples.map((s) => ({ ...s, rewards: { ...s.rewards } })),
    at: at(step.at),
    prompts: [...step.prompts],
    images: [...step.images ?? []],
    workers: [...step.workers ?? []],
  };
}

/** An event on the wire. */
export function toWireEvent(event: RunEvent) {
  switch (event.type) {
    case "step":
      return { event: { case: "step" as const, value: toWireStep(event) } };
    case "state": {
      const { state, reason, step } = event;
      return {
        event: {
          case: "state" as const,
          value: { state: STATES[state], reason, step, at: at(event.at) },
        },
      };
    }
    case "swap":
      return {
        event: {
          case: "swap" as const,
          value: { step: event.step, rewards: event.rewards.map(toWireTerm), at: at(event.at) },
        },
      };
    case "save":
      return { event: { case: "save" as const, value: { step: event.step, at: at(event.at) } } };
    case "panel": {
      // Why it ends the run is told by the state that follows.
      const { type: _, ends: _ends, rewards, ...facts } = event;
      const value = { ...facts, rewards: toWireMetrics(rewards), at: at(event.at) };
      return { event: { case: "panel" as const, value } };
    }
    case "damage": {
      const { type: _, ...facts } = event;
      return { event: { case: "damage" as const, value: { ...facts, at: at(event.at) } } };
    }
    case "digest": {
      const { type: _, ...facts } = event;
      return { event: { case: "digest" as const, value: { ...facts, at: at(event.at) } } };
    }
    case "choice":
      return { event: { case: "choice" as const, value: toWireChoice(event) } };
    case "checkpoint":
      return {
        event: { case: "checkpoint" as const, value: { step: event.step, at: at(event.at) } },
      };
  }
}

function toWireChoice({ type: _, candidates, ...facts }: ChoiceEvent) {
  return {
    ...facts,
    candidates: candidates.map((c) => ({ ...c, heldOut: { ...c.heldOut } })),
    at: at(facts.at),
  };
}

/** A run on the wire; with no prompts none of its latest step either. */
export function toWireRun(
  run: TrainingRun,
  { prompts = "beginning" }: { readonly prompts?: PromptsShown } = {},
) {
  const { choice, latest, lastState } = run.log;
  const updated = run.log.events.at(-1)?.at ?? run.createdAt;
  return {
    id: run.id,
    state: STATES[run.state],
    step: run.step,
    iterations: run.iterations,
    reason: lastState?.reason ?? "",
    createdAt: at(run.createdAt),
    updatedAt: at(updated),
    ...(run.ended && lastState && { endedAt: at(lastState.at) }),
    config: toWireConfig(run.config, prompts),
    rewards: run.rewards.map(toWireTerm),
    ...(latest &&
      { latest: { ...toWireStep(latest), ...(prompts === "none" && { prompts: [] }) } }),
    checkpoints: [...run.checkpoints],
    ...(choice && { choice: toWireChoice(choice) }),
  };
}

/** A run whose folder cannot be read. */
export function toUnreadableRun(id: string, reason: string) {
  return { id, state: Wire.FAILED, reason: `Cannot be read: ${reason}`, unreadable: true };
}
