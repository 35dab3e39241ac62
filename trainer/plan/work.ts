import type { RunnableNetwork } from "../model/mod.ts";

/** Kinds of work of an iteration. */
export const PHASES = [
  "text",
  "sampling",
  "decoder",
  "decoder gradient",
  "U-Net gradient",
  "transformer gradient",
] as const;

/** One kind of work of an iteration. */
export interface PhasePlan {
  readonly name: (typeof PHASES)[number];
  /** Graphs, or chains of pieces, run in an iteration; a mean where a method draws it. */
  readonly runs: number;
  /** Pieces that the network is cut into; 1: it runs in one graph. */
  readonly pieces: number;
  /** Bytes of weights and activations while it runs. */
  readonly bytes: number;
  /** Floating-point operations in products and convolutions of an iteration. */
  readonly flops: number;
  readonly seconds: number;
}

/** Networks that an iteration runs. */
export interface Work {
  readonly name: PhasePlan["name"];
  readonly networks: readonly { readonly network: RunnableNetwork; readonly times: number }[];
}

/** What an iteration does in the mean of a method's draws. */
export interface MethodMeans {
  /** Steps sampled, trained, and gone back through. */
  readonly steps: number;
  readonly trained: number;
  readonly backward: number;
  readonly redraws: number;
  /** Products with the network's input, of methods that have one. */
  readonly nested: number;
  readonly inputStopGradient: boolean;
}
