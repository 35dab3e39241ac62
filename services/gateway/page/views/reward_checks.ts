import { h } from "../dom.ts";
import { asMeasured, betterOf, type ServedReward } from "../form/served_rewards.ts";
import { readingText } from "../prompt_reading.ts";
import type { RewardTerm } from "../types.ts";

/**
 * A choice of any number of served rewards that answer. Those of a run's mixture stand first, are chosen from the start
 * and read what the run has them read: their numbers are the run's.
 */
export class RewardChecks {
  readonly element: HTMLElement;
  readonly #boxes: ReadonlyMap<ServedReward, HTMLInputElement>;

  constructor(
    legend: string,
    { served, terms }: {
      readonly served: readonly ServedReward[];
      readonly terms: readonly RewardTerm[];
    },
  ) {
    const ready = served.filter(({ service, description }) => service.ready && description);
    const { own, others } = asMeasured(ready, terms);
    const box = (reward: ServedReward, checked: boolean) =>
      [reward, h("input", { type: "checkbox", checked })] as const;
    this.#boxes = new Map([
      ...own.map((reward) => box(reward, true)),
      ...others.map((reward) => box(reward, false)),
    ]);
    this.element = h(
      "fieldset",
      { class: "checks" },
      h("legend", { class: "field-label" }, legend),
      ...[...this.#boxes].map(([{ key, term, description }, box]) =>
        h(
          "label",
          {},
          box,
          key,
          h(
            "span",
            { class: "sub" },
            description && [`${betterOf(description)} is better`, ...readingText(term)].join(", "),
          ),
        )
      ),
      ready.length === 0 && h("p", { class: "sub" }, "No reward service answers."),
    );
  }

  /** Those that are chosen. */
  get chosen(): readonly ServedReward[] {
    return [...this.#boxes].filter(([, box]) => box.checked).map(([reward]) => reward);
  }
}

/** Which way is better, by the names of rewards. */
export function betterByKey(rewards: readonly ServedReward[]): ReadonlyMap<string, string> {
  return new Map(
    rewards.map(({ key, description }) => [key, description ? betterOf(description) : "larger"]),
  );
}
