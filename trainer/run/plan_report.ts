import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { PHASES, type RunPlan } from "../plan/mod.ts";
import { fromDisk } from "./_disk.ts";
import { writeWhole } from "./_write_whole.ts";
import type { RunEvent } from "./run_events.ts";

/** What was estimated before a run, and what it took. */
export interface PlanReport {
  readonly estimated: RunPlan;
  readonly measured: {
    /** Most resident bytes of the process that ran the networks; absent as below, and where the system does not say. */
    readonly bytes?: number | undefined;
    /**
     * Mean over the iterations of this start, rewards not counted, and not the first, which loads, where there are others;
     * absent where none was finished.
     */
    readonly secondsPerIteration?: number | undefined;
    readonly iterations: number;
  };
  /** Measured over estimated. */
  readonly ratio: { readonly bytes?: number; readonly seconds?: number };
}

/** Compares an estimate with the process's peak and with the events of the iterations after `from`. */
export function planReport(
  estimated: RunPlan,
  { bytes, events, from }: {
    readonly bytes: number | undefined;
    readonly events: readonly RunEvent[];
    readonly from: number;
  },
): PlanReport {
  // Of workers an estimate of one process says nothing.
  const own = events.flatMap((e) =>
    e.type === "step" && e.step > from && e.workers === undefined
      ? [(e.seconds.total ?? 0) - (e.seconds.reward ?? 0)]
      : []
  );
  if (own.length === 0) return { estimated, measured: { iterations: 0 }, ratio: {} };
  const loaded = own.length === 1 ? own : own.slice(1);
  const seconds = loaded.reduce((a, b) => a + b, 0) / loaded.length;
  return {
    estimated,
    measured: { bytes, secondsPerIteration: seconds, iterations: own.length },
    ratio: {
      ...(bytes !== undefined && { bytes: bytes / estimated.bytes }),
      seconds: seconds / estimated.secondsPerIteration,
    },
  };
}

/** A sentence about the error of an estimate: "Peak memory 0.92 GiB (estimated 0.85), 3.1 s an iteration (…)". */
export function reportText({ estimated, measured }: PlanReport): string {
  const gib = (n: number) => (n / 2 ** 30).toFixed(2);
  const { bytes, secondsPerIteration: seconds } = measured;
  return [
    ...bytes === undefined
      ? []
      : [`peak memory ${gib(bytes)} GiB (estimated ${gib(estimated.bytes)})`],
    ...seconds === undefined ? [] : [
      `${seconds.toPrecision(2)} s an iteration, rewards not counted (estimated ${
        estimated.secondsPerIteration.toPrecision(2)
      })`,
    ],
  ].join(", ");
}

/** Writes `plan.json` into a run's folder. */
export async function writePlanReport(folder: string, report: PlanReport): Promise<void> {
  await writeWhole(join(folder, "plan.json"), `${JSON.stringify(report, null, 2)}\n`);
}

const positive = z.number().positive();
const estimateSchema = z.object({
  estimated: z.object({
    phases: z.array(z.object({
      name: z.enum(PHASES),
      runs: z.number(),
      pieces: z.int(),
      bytes: z.number(),
      flops: z.number(),
      seconds: z.number(),
    })),
    bytes: positive,
    // Reports of versions before it have none.
    adapterBytes: z.number().nonnegative().default(0),
    secondsPerIteration: positive,
  }),
});

/** The estimate that a run's folder holds from when it began; undefined where it holds none that can be read. */
export async function readEstimate(folder: string): Promise<RunPlan | undefined> {
  try {
    const path = join(folder, "plan.json");
    const text = await fromDisk("plan.read", { path }, () => readFile(path, "utf8"));
    return estimateSchema.safeParse(JSON.parse(text)).data?.estimated;
  } catch {
    return undefined;
  }
}
