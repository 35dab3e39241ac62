import { number } from "../format.ts";
import type { RewardTerm } from "../types.ts";

/** A mixture in a line: "symmetry × 1, clip × 0.3". */
export function mixtureText(rewards: readonly RewardTerm[]): string {
  return rewards.map(({ name, weight }) => `${name} × ${number(weight ?? 1, 3)}`).join(", ");
}
