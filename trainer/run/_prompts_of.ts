import { permutation, randomStream } from "../random.ts";
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
  const orders = new Map<number, Uint32Array>();
  return Array.from({ length: count }, (_, i) => {
    const n = (iteration - 1) * count + i;
    const pass = Math.floor(n / prompts.length);
    const order = orders.get(pass) ??
      permutation(prompts.length, randomStream(seed, "prompts", { iteration: pass }));
    orders.set(pass, order);
    return prompts[order[n % prompts.length] ?? 0] ?? "";
  });
}
