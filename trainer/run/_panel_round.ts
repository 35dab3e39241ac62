import { askPatiently } from "./_ask_rewards.ts";
import { comparable } from "./_comparable.ts";
import type { Scoring } from "./_gallery.ts";
import { InterruptedError, type Patience } from "./_patience.ts";
import { type Boundary, isInterrupted, type Progress } from "./_pending.ts";
import type { RewardClients } from "./_reward_clients.ts";
import { findAlarm } from "./panel.ts";
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

/**
 * Measures the panel once, with its event; an alarm may end the run. Throws `InterruptedError` where something else is
 * wanted while a reward is waited for.
 */
export async function panelRound(
  run: Measured,
  { step, mixture, measure }: Boundary & {
    readonly measure: (score: Scoring) => Promise<Pick<PanelEvent, "rewards" | "diversity">>;
  },
): Promise<void> {
  const { clients, config, log, progress } = run;
  const { panel } = config;
  const terms = [...mixture, ...watched(config, mixture)];
  const found = await measure((images, prompts) =>
    askPatiently(run, {
      terms,
      ask: (asked, signal) => asked.score(images, prompts, { signal }),
      isWanted: () => isInterrupted({ step, mixture }, run),
    })
  );
  if (log.mixtureOf(step + 1) !== mixture) throw new InterruptedError("Rewards swapped");
  const connected = await clients.connected(terms);
  const since = log.events.findLastIndex((e) => e.type === "swap") + 1;
  // Measurements by other weights say nothing about these.
  const before = log.events.slice(since).filter((e) => e.type === "panel")
    .filter(({ rewards }) => changes(rewards, found.rewards).length === 0);
  const alarm = findAlarm(
    comparable({ step, ...found }, connected, config),
    before.map((e) => comparable(e, connected, config)),
    panel,
  );
  const heldOut = terms.filter(({ weight }) => weight === 0).map(({ name }) => name);
  await log.emit({ type: "panel", step, ...found, heldOut, alarm });
  if (alarm !== "" && panel.stop) progress.end ??= { state: "stopped", reason: alarm };
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
