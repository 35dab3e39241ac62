import { z } from "zod";
import type { RewardTerm as WireTerm } from "../../proto/mod.ts";
import {
  FieldError,
  parseConfig,
  rewardMixtureSchema,
  type RewardTerm,
  trainedMixtureSchema,
} from "../../trainer/mod.ts";
import { fromWireTerm } from "./wire_config.ts";

/** What SwapReward asks for. */
type Change =
  | { readonly case: "set"; readonly value: WireTerm }
  | { readonly case: "remove"; readonly value: string }
  | { readonly case: "mixture"; readonly value: { readonly rewards: readonly WireTerm[] } }
  | { readonly case: undefined };

/** A mixture after a change. Throws `FieldError`. */
export function changed(present: readonly RewardTerm[], change: Change): readonly RewardTerm[] {
  switch (change.case) {
    case "set": {
      const [term] = mixtureOf([change.value]);
      if (term === undefined) throw new FieldError("set", "is empty");
      const known = present.some((t) => t.name === term.name);
      return trained(
        known ? present.map((t) => t.name === term.name ? term : t) : [...present, term],
      );
    }
    case "remove": {
      const left = present.filter((t) => t.name !== change.value);
      if (left.length === present.length) {
        throw new FieldError(
          "remove",
          `is "${change.value}", expected one of ${present.map((t) => t.name).join(", ")}`,
        );
      }
      if (left.length === 0) throw new FieldError("remove", "would leave no reward");
      return trained(left);
    }
    case "mixture":
      return trained(mixtureOf(change.value.rewards));
    case undefined:
      throw new FieldError("change", "is missing, expected set, remove or mixture");
  }
}

/** The terms of a request. Throws `FieldError`. */
export function mixtureOf(terms: readonly WireTerm[]): readonly RewardTerm[] {
  const schema = z.strictObject({ rewards: rewardMixtureSchema });
  return parseConfig(schema, { rewards: terms.map(fromWireTerm) }).rewards;
}

function trained(rewards: readonly RewardTerm[]): readonly RewardTerm[] {
  return parseConfig(z.strictObject({ rewards: trainedMixtureSchema }), { rewards }).rewards;
}
