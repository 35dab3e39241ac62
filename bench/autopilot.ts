/**
 * How often the autopilot ends runs whose judges do not get worse, and how well it ends those whose judges do: on judges'
 * paths resampled from real runs' panels. `deno task autopilot` repeats the figures of docs/training.md.
 */
import { parseArgs } from "node:util";
import { z } from "zod";
import { Random } from "../models/random/mod.ts";
import { choose, evidenceOf, findAlarm, type PanelMeasurement } from "../trainer/mod.ts";

/** Judges' scores, greater is better, by measurement and prompt. */
const panelSchema = z.object({
  /** Where it is from. */
  run: z.string(),
  every: z.int(),
  judges: z.record(z.string(), z.array(z.array(z.number()))),
});
type RealPanel = z.infer<typeof panelSchema>;

/** How a judge's mean moves beside the noise, in deviations of a prompt's changes, by measurement. */
type Trend = (look: number) => number;

const RATE = 0.05;

/**
 * A run's panel whose judges' prompts wander as a real run's do. A prompt's path since the first measurement, less the mean path
 * of all prompts, is drawn with replacement and with either sign: judges that move on no average, with the noise, the
 * correlation between measurements and that between judges of the real run. Each judge's mean then follows the trend.
 */
function resampled(
  { every, judges }: RealPanel,
  { random, prompts, trend }: {
    readonly random: Random;
    readonly prompts: number;
    readonly trend: Trend;
  },
): PanelMeasurement[] {
  const looks = Object.values(judges)[0]?.length ?? 0;
  const count = Object.values(judges)[0]?.[0]?.length ?? 0;
  const drawn = Array.from({ length: prompts }, () => ({
    from: random.integer(0, count - 1),
    sign: random.integer(0, 1) === 0 ? -1 : 1,
  }));
  return Array.from({ length: looks }, (_, t): PanelMeasurement => ({
    step: every * t,
    // What is trained rises without noise, so that an alarm is about judges alone.
    trained: Array.from({ length: prompts }, (_, i) => t + 0.001 * i),
    diversity: 1,
    heldOut: Object.fromEntries(
      Object.entries(judges).map(([name, scores]) => {
        const moved = (prompt: number, look: number) =>
          (scores[look]?.[prompt] ?? NaN) - (scores[0]?.[prompt] ?? NaN);
        const mean = (look: number) =>
          Array.from({ length: count }, (_, p) => moved(p, look)).reduce((a, b) => a + b, 0) /
          count;
        const deviation = Math.sqrt(
          Array.from({ length: count }, (_, p) => (moved(p, looks - 1) - mean(looks - 1)) ** 2)
            .reduce((a, b) => a + b, 0) / (count - 1),
        );
        return [
          name,
          drawn.map(({ from, sign }) => sign * (moved(from, t) - mean(t)) + deviation * trend(t)),
        ];
      }),
    ),
  }));
}

interface Outcome {
  /** Measurement at which the autopilot ended the run; absent where it did not. */
  readonly ended: number | undefined;
  /** Measurement at which the panel's rule of a 95 % interval each time first raised an alarm. */
  readonly alarmed: number | undefined;
  /** Measurement that the autopilot took: that of what was chosen, or the last. */
  readonly taken: number;
}

function outcomeOf(panel: readonly PanelMeasurement[], every: number): Outcome {
  let [ended, alarmed]: (number | undefined)[] = [undefined, undefined];
  for (let t = 1; t < panel.length; t++) {
    const seen = panel.slice(0, t + 1);
    const now = panel[t];
    if (now === undefined) break;
    if (alarmed === undefined && findAlarm(now, panel.slice(0, t), { minDiversity: 0 }) !== "") {
      alarmed = t;
    }
    const evidence = evidenceOf(seen, { imagesPerPrompt: 1 })?.value ?? 0;
    if (ended === undefined && evidence >= 1 / RATE) ended = t;
  }
  const seen = panel.slice(0, (ended ?? panel.length - 1) + 1);
  const [best] = choose(seen.slice(1).map((m) => ({ ...m, scale: 1 })), {
    measurements: seen,
    imagesPerPrompt: 1,
  });
  return { ended, alarmed, taken: (best?.candidate.step ?? 0) / every };
}

/** Judges rise until a measurement and fall from there on, by so many deviations each time. */
const turning = (peak: number, by: number): Trend => (t) =>
  t <= peak ? by * t : by * (2 * peak - t);

function main(args: readonly string[]): void {
  const { values } = parseArgs({
    args: [...args],
    options: { runs: { type: "string", default: "100" }, seed: { type: "string", default: "0" } },
  });
  const [runs, seed] = [Number(values.runs), Number(values.seed)];
  const file = new URL("autopilot_panels.json", import.meta.url);
  const panels = z.array(panelSchema).min(1).parse(JSON.parse(Deno.readTextFileSync(file)));
  const share = (outcomes: readonly Outcome[], which: "ended" | "alarmed") =>
    outcomes.filter((o) => o[which] !== undefined).length / outcomes.length;
  const median = (v: readonly number[]) => v.toSorted((a, b) => a - b)[v.length >> 1] ?? NaN;
  console.log("| judges | prompts | ended | 95 % alarm | ended at | taken at | best |");
  console.log("|---|---|---|---|---|---|---|");
  for (const prompts of [8, 16, 32]) {
    for (
      const [name, trend, best] of [
        ["do not move", () => 0, undefined],
        ["turn at 4, by .25 each time", turning(4, 0.25), 4],
        ["turn at 4, by .5 each time", turning(4, 0.5), 4],
        ["fall from the start, by .5", (t: number) => -0.5 * t, 0],
      ] as const
    ) {
      const outcomes = Array.from({ length: runs }, (_, run) => {
        const random = new Random(seed, run * 64 + prompts);
        const real = panels[run % panels.length];
        if (real === undefined) throw new RangeError("No panel");
        return outcomeOf(resampled(real, { random, prompts, trend }), real.every);
      });
      const ends = outcomes.flatMap(({ ended }) => ended ?? []);
      console.log(
        `| ${name} | ${prompts} | ${share(outcomes, "ended")} | ${share(outcomes, "alarmed")} | ${
          ends.length === 0 ? "-" : median(ends)
        } | ${median(outcomes.map(({ taken }) => taken))} | ${best ?? "-"} |`,
      );
    }
  }
}

if (import.meta.main) main(Deno.args);
