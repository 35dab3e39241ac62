import type { PanelReward, RewardTerm } from "../../proto/mod.ts";
import { FieldError } from "../../trainer/mod.ts";

/**
 * Gives terms without an endpoint the address this server knows under their name. Throws `FieldError` for a term whose
 * name it does not know.
 *
 * @param terms of a request; changed in place
 * @param addresses of reward servers by name
 * @param field where the terms stand in the request
 */
export function fillInEndpoints(
  terms: readonly (RewardTerm | PanelReward)[],
  { addresses, field }: { readonly addresses: ReadonlyMap<string, string>; readonly field: string },
): void {
  for (const [i, term] of terms.entries()) {
    if (term.endpoint !== "") continue;
    const name = term.name || term.reward;
    const address = addresses.get(name);
    if (address === undefined) {
      const known = addresses.size === 0
        ? "this server knows no reward by name"
        : `expected a name this server knows: ${[...addresses.keys()].join(", ")}`;
      throw new FieldError(
        `${field}.${i}.endpoint`,
        `is missing and the term's name is "${name}", ${known}`,
      );
    }
    term.endpoint = address;
  }
}
