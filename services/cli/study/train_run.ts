import { toJson } from "@bufbuild/protobuf";
import {
  type Run,
  type RunConfig,
  RunConfigSchema,
  RunState,
  type StepEvent,
  type TrainerService,
} from "../../../proto/mod.ts";
import { computeOf } from "../../../trainer/mod.ts";
import { type GrpcClient, StatusError } from "../../rpc/mod.ts";
import type { RunSpec } from "./grid_runs.ts";
import type { GridStudy } from "./study_schema.ts";

/** A point of a run's training: what was spent until then, and the rewards' means over the images of that iteration. */
export interface CurvePoint {
  readonly step: number;
  /** Seconds of compute. */
  readonly compute: number;
  readonly rewards: Readonly<Record<string, number>>;
}

/** A measurement of the run's own panel. */
export interface PanelPoint extends CurvePoint {
  readonly heldOut: readonly string[];
  readonly diversity: number;
  readonly alarm: string;
}

/** What training a run has come to. */
export interface Trained {
  readonly iterations: number;
  /** Seconds of compute that were spent. */
  readonly compute: number;
  /** Seconds that steps waited for rewards, which are not in `compute`. */
  readonly rewardSeconds: number;
  /** Seconds of all steps by the clock. */
  readonly wallSeconds: number;
  readonly curve: readonly CurvePoint[];
  readonly panel: readonly PanelPoint[];
  /** Configuration as frozen, defaults filled in. */
  readonly config: unknown;
}

/**
 * Trains a run until its budget is spent, or goes on with it where it is there. `onStep` is told what was spent so far.
 */
export async function trainRun(
  trainer: GrpcClient<typeof TrainerService>,
  { spec, compute, onStep, signal }: {
    readonly spec: RunSpec;
    readonly compute: GridStudy["compute"];
    readonly onStep: (seconds: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<Trained> {
  const { id: runId, config } = spec;
  const run = await startedRun(trainer, { runId, config, signal });
  const curve: CurvePoint[] = [];
  const panel: PanelPoint[] = [];
  let [rewardSeconds, wallSeconds, total] = [0, 0, 0];
  for (let from = 1;;) {
    let [state, reason] = [RunState.UNSPECIFIED, ""];
    for await (const { event } of trainer.watchRun({ runId, fromStep: from }, { signal })) {
      if (event.case === "state") [state, reason] = [event.value.state, event.value.reason];
      if (event.case === "panel") {
        const { step, heldOut, diversity, alarm } = event.value;
        const rewards = meansOf(event.value.rewards);
        panel.push({ step, compute: total, rewards, heldOut, diversity, alarm });
      }
      if (event.case !== "step" || event.value.step === 0) continue;
      const { step, seconds } = event.value;
      if (step <= curve.length) continue;
      total += computeOf(event.value, compute) ?? missing();
      rewardSeconds += seconds["reward"] ?? 0;
      wallSeconds += seconds["total"] ?? 0;
      curve.push({ step, compute: total, rewards: meansOf(event.value.rewards) });
      onStep(total);
    }
    if (state === RunState.FAILED) throw new Error(`Run ${runId} failed: ${reason}`);
    // A run that its budget or its panel has ended gives a reason.
    if (state === RunState.FINISHED || reason !== "") break;
    // Somebody stopped it before.
    await trainer.resumeRun({ runId }, { timeoutMs: 60_000, signal });
    from = curve.length + 1;
  }
  return {
    ...{ iterations: curve.length, compute: total, rewardSeconds, wallSeconds, curve, panel },
    config: run?.config ? toJson(RunConfigSchema, run.config) : {},
  };
}

/** The run, which is started where it is not there: its name says by which configuration. */
async function startedRun(
  trainer: GrpcClient<typeof TrainerService>,
  { runId, config, signal }: {
    readonly runId: string;
    readonly config: RunConfig;
    readonly signal: AbortSignal;
  },
): Promise<Run | undefined> {
  const call = { timeoutMs: 60_000, signal };
  try {
    return (await trainer.getRun({ runId }, call)).run;
  } catch (error) {
    if (!(error instanceof StatusError) || error.status !== "NOT_FOUND") throw error;
    return (await trainer.startRun({ runId, config }, call)).run;
  }
}

function missing(): never {
  throw new Error("The trainer does not say what CPU time its steps take: it is an older one");
}

function meansOf(rewards: StepEvent["rewards"]): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(rewards).map(([name, { mean }]) => [name, mean]));
}
