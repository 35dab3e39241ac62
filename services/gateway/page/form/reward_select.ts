import { h, replace, say } from "../dom.ts";
import {
  rewardFacts,
  rewardLabel,
  servedAs,
  type ServedReward,
  type TermIdentity,
} from "./served_rewards.ts";

/** A choice among the rewards that are served, with what is known of the one that is chosen. */
export class RewardSelect {
  readonly element: HTMLSelectElement;
  /** Which way is better, and whether it answers. */
  readonly facts = h("p", { class: "sub reward-facts" });
  #served: readonly ServedReward[] = [];

  /** @param onChoose told what a term says to mean the chosen one; undefined: one that is not served here */
  constructor(label: string, onChoose: (term: ServedReward["term"] | undefined) => void) {
    this.element = h("select", {
      "aria-label": label,
      onchange: () => {
        const chosen = this.#served.find(({ key }) => key === this.element.value);
        say(this.facts, rewardFacts(chosen));
        onChoose(chosen?.term);
      },
    });
  }

  /** Shows what is served now and which of it a term means. */
  update(term: TermIdentity, served: readonly ServedReward[]): void {
    this.#served = served;
    const chosen = servedAs(term, served);
    say(this.facts, rewardFacts(chosen));
    const options = [
      ...served.map((one) => [one.key, rewardLabel(one)] as const),
      ["", "Another service …"] as const,
    ];
    const shown = JSON.stringify(options);
    if (this.element.dataset["shown"] !== shown) {
      this.element.dataset["shown"] = shown;
      replace(this.element, ...options.map(([value, label]) => h("option", { value }, label)));
    }
    this.element.value = chosen?.key ?? "";
  }
}
