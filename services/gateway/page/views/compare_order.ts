import type { Side } from "../blind_comparison.ts";

/** Both sides. */
export const SIDES = ["A", "B"] as const;

/** What stands on one side. */
export interface Contestant {
  readonly runId: string;
  readonly step: number;
}

/** What is compared, on what. */
export interface CompareOrder {
  readonly contestants: Readonly<Record<Side, Contestant>>;
  readonly prompts: readonly { readonly prompt: string; readonly category: string }[];
  readonly seed: number;
  readonly imagesPerPrompt: number;
}
