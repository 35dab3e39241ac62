import { number } from "../format.ts";
import type { RewardTerm } from "../types.ts";

/** A mixture in a line: "symmetry × 1, clip × 0.3 (without “, and books”)". */
export function mixtureText(rewards: readonly RewardTerm[]): string {
  return rewards.map((term) => {
    const how = countedText(term);
    return `${term.name} × ${number(term.weight ?? 1, 3)}${how === "" ? "" : ` (${how})`}`;
  }).join(", ");
}

/** How a reward counts where that is not as it is: what it reads, its hinge, its z-score. */
function countedText({ prompt, without, hinge, zScore }: RewardTerm): string {
  return [
    ...prompt === "" ? [] : [`reads “${prompt}”`],
    ...without.length === 0 ? [] : [`without ${without.map((w) => `“${w}”`).join(", ")}`],
    ...hinge === undefined ? [] : [`hinge ${number(hinge, 3)}`],
    ...zScore ? ["z-score"] : [],
  ].join(", ");
}
