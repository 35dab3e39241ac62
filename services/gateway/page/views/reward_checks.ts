import { h } from "../dom.ts";
import { betterOf, servedAs, type ServedReward } from "../form/served_rewards.ts";
import type { RewardTerm } from "../types.ts";

/** A choice of any number of served rewards that answer; those of a run's mixture are chosen from the start. */
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
    const trained = new Set(terms.map((term) => servedAs(term, ready)));
    this.#boxes = new Map(
      ready.map((
        reward,
      ) => [reward, h("input", { type: "checkbox", checked: trained.has(reward) })]),
    );
    this.element = h(
      "fieldset",
      { class: "checks" },
      h("legend", { class: "field-label" }, legend),
      ...[...this.#boxes].map(([reward, box]) =>
        h(
          "label",
          {},
          box,
          reward.key,
          h(
            "span",
            { class: "sub" },
            reward.description && `${betterOf(reward.description)} is better`,
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
