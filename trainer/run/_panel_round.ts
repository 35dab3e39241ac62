import { askPatiently } from "./_ask_rewards.ts";
import { comparable } from "./_comparable.ts";
import type { Scoring } from "./_gallery.ts";
import { InterruptedError, type Patience } from "./_patience.ts";
import { type Boundary, isInterrupted, type Progress } from "./_pending.ts";
import type { RewardClients } from "./_reward_clients.ts";
import { type Candidate, choose } from "./choice.ts";
import { type Evidence, evidenceOf } from "./evidence.ts";
import { findAlarm, type PanelMeasurement } from "./panel.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type { PanelEvent, StepEvent } from "./run_events.ts";
import type { RunLog } from "./run_log.ts";

/** A run as a measurement of its panel sees it. */
interface Measured {
  readonly config: RunConfig;
  readonly log: RunLog;
  readonly progress: Progress;
  readonly clients: RewardClients;
  readonly patience: Patience;
}

type Found = Pick<PanelEvent, "rewards" | "diversity">;

/**
 * Measures the panel once, with its event, which says whether an alarm, or with `stop: auto` the evidence that a judge has
 * turned, ends the run: what is decided is in the log or is not decided. Throws `InterruptedError` where something else is wanted while a reward is waited for.
 */
export async function panelRound(
  run: Measured,
  { step, mixture, measure }: Boundary & { readonly measure: (score: Scoring) => Promise<Found> },
): Promise<void> {
  const { config: { panel, stop }, log } = run;
  const { found, before, comparing, heldOut } = await measured(run, {
    ...{ step, mixture, measure },
    isWanted: () => isInterrupted({ step, mixture }, run),
  });
  const now = comparing({ step, ...found });
  const alarm = findAlarm(now, before, panel);
  const evidence = stop === "auto" ? evidenceOf([...before, now], panel) : undefined;
  const seen = evidence && { evidence: evidence.value };
  const turned = evidence === undefined ? "" : turnOf(evidence, panel.falseAlarmRate);
  const ends = [...panel.stop ? [alarm] : [], turned].find((text) => text !== "");
  const decided = ends === undefined ? {} : { ends };
  await log.emit({ type: "panel", step, ...found, heldOut, alarm, ...seen, ...decided });
}

/** Why the panel's judges have turned; "" where the evidence is not enough. */
function turnOf({ value, most: { judge, since, fall } }: Evidence, rate: number): string {
  if (value < 1 / rate) return "";
  return `The judges have turned: ${judge} is ${short(fall)} worse than at step ${since} ` +
    `(evidence ${short(value)}, ${short(1 / rate)} ends a run)`;
}

const short = (v: number) => String(Number(v.toPrecision(3)));

/**
 * Chooses the LoRA to take when a run has ended: among its last one at several scales and, with `stop: auto`, the
 * checkpoints that were measured. `measure` measures the last one at a scale. Throws `InterruptedError` where somebody asks
 * for an end while a reward is waited for.
 */
export async function choiceRound(
  run: Measured,
  { step, mixture, measure }: Boundary & {
    readonly measure: (scale: number, score: Scoring) => Promise<Found>;
  },
): Promise<void> {
  const { config: { panel, stop }, log, progress } = run;
  const scaled: Candidate[] = [];
  let known: readonly PanelMeasurement[] = [];
  let signs: Readonly<Record<string, number>> = {};
  for (const scale of [1, ...panel.scales]) {
    const { found, before, comparing, directions } = await measured(run, {
      ...{ step, mixture },
      measure: (score) => measure(scale, score),
      isWanted: () => progress.end !== undefined,
    });
    scaled.push({ ...comparing({ step, ...found }), scale });
    [known, signs] = [before, directions];
  }
  const saved = new Set(progress.checkpoints);
  const earlier = stop === "auto"
    ? known.filter((m) => m.step < step && saved.has(m.step)).map((m) => ({ ...m, scale: 1 }))
    : [];
  const { imagesPerPrompt } = panel;
  const compared = choose([...scaled, ...earlier], { measurements: known, imagesPerPrompt });
  const [best] = compared;
  if (best === undefined) return;
  await log.emit({
    type: "choice",
    step,
    chosen: best.candidate.step,
    loraScale: best.candidate.scale,
    candidates: compared.map(({ candidate, trained, objections }) => ({
      step: candidate.step,
      loraScale: candidate.scale,
      trained,
      heldOut: Object.fromEntries(
        Object.entries(candidate.heldOut).map(([name, scores]) => [
          name,
          (signs[name] ?? 1) * scores.reduce((a, b) => a + b, 0) / scores.length,
        ]),
      ),
      objections: [...objections],
    })),
  });
}

/** One measurement, and the earlier ones that it may be compared with: of the same mixture and weights. */
async function measured(
  run: Measured,
  { step, mixture, measure, isWanted }: Boundary & {
    readonly measure: (score: Scoring) => Promise<Found>;
    /** Whether a wait for a reward is to be given up. */
    readonly isWanted: () => boolean;
  },
) {
  const { clients, config, log } = run;
  const terms = [...mixture, ...watched(config, mixture)];
  const found = await measure((images, prompts) =>
    askPatiently(run, {
      terms,
      ask: (asked, signal) => asked.score(images, prompts, { signal }),
      isWanted,
    })
  );
  if (log.mixtureOf(step + 1) !== mixture) throw new InterruptedError("Rewards swapped");
  const connected = await clients.connected(terms);
  const since = log.events.findLastIndex((e) => e.type === "swap") + 1;
  const comparing = (m: Pick<PanelEvent, "step" | "rewards" | "diversity">) =>
    comparable(m, connected, config);
  return {
    found,
    comparing,
    // Measurements by other weights say nothing about these.
    before: log.events.slice(since).filter((e) => e.type === "panel")
      .filter(({ rewards }) => changes(rewards, found.rewards).length === 0).map(comparing),
    heldOut: terms.filter(({ weight }) => weight === 0).map(({ name }) => name),
    directions: Object.fromEntries(
      connected.map(({ term, client }) => [term.name, client.direction === "minimise" ? -1 : 1]),
    ),
  };
}

/** The panel's rewards that the mixture does not have; they are not trained on. */
export function watched(
  { panel }: RunConfig,
  mixture: readonly RewardTerm[],
): readonly RewardTerm[] {
  return panel.rewards.filter(({ name }) => !mixture.some((term) => term.name === name))
    .map((reward) => ({ ...reward, weight: 0 }));
}

/** Rewards that answered with other weights than before. */
export function changes(before: StepEvent["rewards"], after: StepEvent["rewards"]) {
  return Object.entries(after).flatMap(([reward, { digest }]) => {
    const known = before[reward]?.digest ?? digest;
    return known === digest ? [] : [{ reward, before: known, digest }];
  });
}
