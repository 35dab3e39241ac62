import { type AdaptableLayer, endOf, isTarget } from "./adapter.ts";
import { denoiserOf, type Lora } from "./export_lora.ts";
import { LoraError } from "./lora_error.ts";
import { LORA_PARTS, type LoraPartName } from "./lora_parts.ts";
import type { Adapters } from "./read_adapter.ts";
import type { Delta, ModuleChange } from "./weight_change.ts";

const KINDS = {
  product: "LoRA",
  hadamard: "LoHa",
  kronecker: "LoKr",
  difference: "a full difference",
} as const satisfies Record<Delta["kind"], string>;

/**
 * What can be trained on of a file: plain products on the denoiser, of any ranks and alphas. The rank and alpha that most
 * modules have are `rank` and `alpha`, the others' are in the patterns. Throws `LoraError` naming `path` for a file that
 * holds anything else, since that would be lost.
 */
export function trainableLora(
  adapters: Adapters,
  { layers, path }: { readonly layers: readonly AdaptableLayer[]; readonly path: string },
): Lora {
  const { unet, transformer, ...others } = adapters;
  const denoiser = unet ?? transformer;
  const rest = Object.keys(others).find((name): name is LoraPartName => name in LORA_PARTS);
  if (rest !== undefined) {
    throw new LoraError(path, `changes the ${LORA_PARTS[rest].title}, which is not trained here`);
  }
  if (denoiser === undefined) {
    const part = denoiserOf(layers.map(({ name }) => name));
    throw new LoraError(path, `changes nothing of the ${LORA_PARTS[part].title}`);
  }
  const modules = denoiser.changes.map((change) => ({
    layer: change.layer,
    ...product(change, path),
  }));
  const [rank, alpha] = [
    mostCommon(modules.map((m) => m.rank)),
    mostCommon(modules.map((m) => m.alpha)),
  ];
  const pattern = (field: "rank" | "alpha", common: number) =>
    Object.fromEntries(
      modules.filter((m) => m[field] !== common).map((m) => [m.layer.name, m[field]]),
    );
  return {
    rank,
    alpha,
    targets: targetsOf(modules.map(({ layer }) => layer), layers),
    rankPattern: pattern("rank", rank),
    alphaPattern: pattern("alpha", alpha),
    tensors: denoiser.tensors,
  };
}

function product(
  { layer: { name }, delta, magnitude, bias }: ModuleChange,
  path: string,
): { readonly rank: number; readonly alpha: number } {
  const fail = (what: string): never => {
    throw new LoraError(path, `has ${what} on "${name}", which is drawn with but not trained here`);
  };
  if (magnitude !== undefined) fail("DoRA");
  if (bias === true) fail("a change of the bias");
  return delta?.kind === "product"
    ? delta
    : fail(delta === undefined ? "nothing" : KINDS[delta.kind]);
}

function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const v of values) counts.set(v, (counts.get(v) ?? 0) + 1);
  return [...counts].reduce((best, entry) => entry[1] > best[1] ? entry : best, [1, 0])[0];
}

/** Ends of names where they mean the adapted layers and no other, else the names themselves. */
function targetsOf(
  adapted: readonly AdaptableLayer[],
  layers: readonly AdaptableLayer[],
): readonly string[] {
  const ends = [...new Set(adapted.map(({ name }) => endOf(name)))];
  const meant = layers.filter(({ name, shape }) =>
    shape.length > 1 && ends.some((end) => isTarget(name, end))
  );
  return meant.length === adapted.length ? ends : adapted.map(({ name }) => name);
}
