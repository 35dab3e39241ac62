import { equals, toJson } from "@bufbuild/protobuf";
import {
  type RewardTerm,
  RunState,
  type StateEvent,
  StateEventSchema,
  type StepEvent,
  type TrainerService,
  type WatchRunResponse,
  WatchRunResponseSchema,
} from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import { Progress } from "../progress.ts";
import { Directions } from "./directions.ts";

/** How a run ended, and what it did on the way. */
export interface Watched {
  readonly state: RunState;
  readonly reason: string;
  readonly steps: readonly StepEvent[];
}

const ENDED: ReadonlySet<RunState> = new Set([
  RunState.STOPPED,
  RunState.FINISHED,
  RunState.FAILED,
]);

/**
 * Follows a run until it ends, showing progress with time left and the rewards moving.
 * With `json`, prints each event as one line of JSON on stdout instead.
 */
export async function watchRun(
  client: GrpcClient<typeof TrainerService>,
  { runId, iterations, rewards = [], fromStep = 1, json = false, signal }: {
    readonly runId: string;
    readonly iterations: number;
    /** Those that the run begins with: beside their numbers stands which way is better. */
    readonly rewards?: readonly RewardTerm[];
    readonly fromStep?: number;
    readonly json?: boolean;
    readonly signal?: AbortSignal;
  },
): Promise<Watched> {
  const progress = new Progress({ quiet: json });
  const steps: StepEvent[] = [];
  let state = RunState.UNSPECIFIED;
  let reason = "";
  let present: StateEvent | undefined;
  const call = signal === undefined ? {} : { signal };
  const directions = new Directions();
  // JSON has numbers alone.
  const lowerOf = async (terms: readonly RewardTerm[]) =>
    json ? new Set<string>() : await directions.lower(terms, signal);
  let lower = await lowerOf(rewards);
  for await (const message of client.watchRun({ runId, fromStep }, call)) {
    if (json) console.log(JSON.stringify(toJson(WatchRunResponseSchema, message)));
    const { event } = message;
    if (event.case === "step") {
      steps.push(event.value);
      const { step, secondsLeft } = event.value;
      // Step 0 is the samples before training: there is no loss yet and no pace.
      progress.update({
        done: step,
        total: iterations,
        ...(step > 0 && { note: describeStep(event.value, lower), secondsLeft }),
      });
    } else if (event.case === "state") {
      state = event.value.state;
      reason = event.value.reason;
      // The first one comes again in its place.
      const isAgain = present !== undefined && equals(StateEventSchema, present, event.value);
      present ??= event.value;
      // The last state is the caller's to tell.
      if (reason === "" || ENDED.has(state) || isAgain) continue;
      progress.say(`${stateName(state)}: ${reason}`);
    } else if (event.case !== undefined) {
      if (event.case === "swap") lower = await lowerOf(event.value.rewards);
      progress.say(describeOther(event, lower));
    }
  }
  progress.end();
  return { state, reason, steps };
}

function describeOther(
  event: Exclude<WatchRunResponse["event"], { case: undefined }>,
  lower: ReadonlySet<string>,
): string {
  switch (event.case) {
    case "swap":
      return `Rewards swapped after step ${event.value.step}: ${
        event.value.rewards.map((r) => `${r.name} x ${r.weight ?? 1}`).join(", ")
      }`;
    case "save":
      return `Checkpoint asked for at step ${event.value.step}`;
    case "panel": {
      const { step, rewards, heldOut, diversity, alarm } = event.value;
      const means = heldOut.map((name) => measured(name, rewards[name]?.mean ?? NaN, lower));
      const facts = [...means, `diversity ${short(diversity)}`].join("  ");
      return `Panel at step ${step}: ${facts}${alarm === "" ? "" : `\nAlarm: ${alarm}`}`;
    }
    case "choice": {
      const { chosen, loraScale, candidates: [best] } = event.value;
      const against = best?.objections.length
        ? `, to which ${best.objections.join(", ")} object`
        : "";
      return `Chose the LoRA of step ${chosen} at scale ${loraScale}${against}`;
    }
    case "damage":
      return `Checkpoint ${event.value.step} is damaged and lies in ${event.value.movedTo} now: ${event.value.reason}`;
    case "digest": {
      const { reward, step, before, after } = event.value;
      return `Reward ${reward} has other weights since step ${step}: ${after}, before ${before}`;
    }
    case "checkpoint":
      return `Checkpoint at step ${event.value.step}`;
    default:
      return event.case;
  }
}

/** "objectness 0.412 (lower is better)  clip 0.803  loss 0.21  |g| 0.35". */
export function describeStep(step: StepEvent, lower: ReadonlySet<string>): string {
  const rewards = Object.entries(step.rewards).map(([name, r]) => measured(name, r.mean, lower));
  if (step.drift !== undefined) rewards.push(`drift ${short(step.drift)}`);
  return [...rewards, `loss ${short(step.loss)}`, `|g| ${short(step.gradNorm)}`].join("  ");
}

function measured(name: string, mean: number, lower: ReadonlySet<string>): string {
  return `${name} ${short(mean)}${lower.has(name) ? " (lower is better)" : ""}`;
}

const short = (v: number) => Number(v.toPrecision(4)).toString();

/** "running", as people write it. */
export function stateName(state: RunState): string {
  return (RunState[state] ?? String(state)).toLowerCase();
}
