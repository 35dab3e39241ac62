import { drawnInPasses } from "../passes.ts";
import type { RunConfig } from "./run_config.ts";

/** The iteration asked for last, by configuration: each of its shards asks for the same. */
const latest = new WeakMap<RunConfig, { iteration: number; prompts: readonly string[] }>();

/** Prompts of an iteration: each pass over the list is a new seeded permutation. */
export function promptsOf(config: RunConfig, iteration: number): readonly string[] {
  const known = latest.get(config);
  if (known?.iteration === iteration) return known.prompts;
  const prompts = drawn(config, iteration);
  latest.set(config, { iteration, prompts });
  return prompts;
}

function drawn(
  { prompts, batch: { size, accumulation }, seed }: RunConfig,
  iteration: number,
): readonly string[] {
  const count = size * accumulation;
  const first = (iteration - 1) * count;
  return drawnInPasses(prompts.length, { first, count, seed, purpose: "prompts" })
    .map((n) => prompts[n] ?? "");
}
