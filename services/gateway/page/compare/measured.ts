import { summarise, type Summary } from "../../../../base/statistics/mod.ts";
import type { RunHistory } from "../run_history.ts";
import type { RunConfig } from "../types.ts";

/** A reward's value for each of the same images: those of the panel, or the samples. */
export interface Measured {
  readonly source: "panel" | "samples";
  /** Iterations done. */
  readonly step: number;
  /** By what an image is of: its prompt and seed. Equal keys of two runs are the same task. */
  readonly values: ReadonlyMap<string, number>;
}

/** The first and the last measurement of a reward. */
export interface Course {
  readonly first: Measured;
  readonly last: Measured;
}

/** Rewards of a run as they were first and last measured on held-out prompts: by the panel, or else by its samples. */
export function courses(history: RunHistory, config: RunConfig | undefined): Map<string, Course> {
  const found = new Map<string, Course>();
  for (const [name, course] of [...samplesOf(history), ...panelsOf(history, config)]) {
    found.set(name, course);
  }
  return found;
}

function samplesOf({ samples }: RunHistory): Map<string, Course> {
  const found = new Map<string, Course>();
  for (const { step, samples: images } of samples) {
    const names = new Set(images.flatMap(({ rewards }) => Object.keys(rewards)));
    for (const name of names) {
      const values = new Map(
        images.flatMap(({ seed, prompt, rewards }) =>
          rewards[name] === undefined ? [] : [[`${seed} ${prompt}`, Number(rewards[name])] as const]
        ),
      );
      keep(found, name, { source: "samples", step, values });
    }
  }
  return found;
}

function panelsOf({ panels }: RunHistory, config: RunConfig | undefined): Map<string, Course> {
  const found = new Map<string, Course>();
  // Panels are of the same images where they are of the same prompts, as often each.
  const task = `${config?.heldOutPrompts?.sha256} ${config?.panel?.imagesPerPrompt}`;
  for (const { step, rewards } of panels) {
    for (const [name, { perImage }] of Object.entries(rewards)) {
      const values = new Map(perImage.map((value, i) => [`${task} ${i}`, Number(value)]));
      keep(found, name, { source: "panel", step, values });
    }
  }
  return found;
}

function keep(found: Map<string, Course>, name: string, measured: Measured): void {
  const { first = measured } = found.get(name) ?? {};
  found.set(name, { first, last: measured });
}

/** A mean with its interval, and how many values it is of. */
export interface Counted extends Summary {
  readonly count: number;
}

/** The mean of a measurement. What is not finite is left out. */
export function meanOf({ values }: Measured): Counted {
  const finite = [...values.values()].filter(Number.isFinite);
  return { ...summarise(finite), count: finite.length };
}

/** The mean of `to` minus `from` over the images that are in both; undefined where they share fewer than two. */
export function differenceOf(from: Measured, to: Measured): Counted | undefined {
  const differences = [...to.values]
    .map(([key, value]) => value - (from.values.get(key) ?? NaN))
    .filter(Number.isFinite);
  return differences.length < 2
    ? undefined
    : { ...summarise(differences), count: differences.length };
}
