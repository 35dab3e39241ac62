import { FieldError } from "../errors.ts";
import { checkReading, type PromptReading } from "../prompt_columns.ts";

/** Fewest images of a panel: a confidence interval of fewer says nothing. */
const LEAST_PANEL = 4;

/** A reward of a mixture, as far as others must fit it. */
interface Term extends PromptReading {
  readonly weight: number;
  readonly zScore?: boolean;
}

/** What a mixture must fit. */
interface Surroundings {
  /** All prompts of the run. */
  readonly lines: readonly string[];
  readonly batch: { readonly size: number };
  readonly drift: { readonly gate?: number };
  readonly shard?: { readonly images: number };
}

/** Throws `FieldError` for what a run's rewards cannot do with its prompts or its batch. */
export function checkRewards(
  { rewards, panel, perturb, ...surroundings }: Omit<Surroundings, "lines"> & {
    readonly rewards: readonly Term[];
    readonly panel: { readonly rewards: readonly PromptReading[] };
    readonly perturb: { readonly copies: number; readonly noise: number };
  },
  lines: readonly string[],
): void {
  checkMixture(rewards, { ...surroundings, lines });
  for (const [i, reward] of panel.rewards.entries()) {
    checkReading(reward, { lines, field: `panel.rewards.${i}` });
  }
  if (perturb.noise === 0 && perturb.copies > 1) {
    throw new FieldError(
      "perturb.noise",
      `is 0, expected more: ${perturb.copies} copies without noise are the same image`,
    );
  }
}

/** Throws `FieldError` for what the rewards of a mixture cannot do with a run's prompts or its batch. */
export function checkMixture(
  rewards: readonly Term[],
  { lines, batch: { size }, drift: { gate }, shard }: Surroundings,
): void {
  const compared = rewards.findIndex(({ zScore }) => zScore);
  if (shard !== undefined && shard.images < size && (gate !== undefined || compared >= 0)) {
    const who = gate === undefined ? `rewards.${compared}.zScore` : "drift.gate";
    throw new FieldError(
      "shard.images",
      `is ${shard.images}, expected ${size}: ${who} compares all images of a batch`,
    );
  }
  if (gate !== undefined && !rewards.some(({ weight }) => weight === 0)) {
    throw new FieldError(
      "drift.gate",
      `is ${gate}, expected none: rewards has none of weight 0, by which images are doubted`,
    );
  }
  if (gate !== undefined && size < 2) {
    throw new FieldError(
      "drift.gate",
      `is ${gate} with batch.size ${size}, expected 2 or more images to compare`,
    );
  }
  for (const [i, term] of rewards.entries()) {
    checkReading(term, { lines, field: `rewards.${i}` });
    if (term.zScore && size < 2) {
      throw new FieldError(
        `rewards.${i}.zScore`,
        `is true with batch.size ${size}, expected 2 or more images to standardise over`,
      );
    }
  }
}

/**
 * Throws `FieldError` for a panel whose rewards have a name twice, or that is too small to compare, and for one that is not
 * measured, or without a judge, where the run is to end or to choose by it.
 */
export function checkPanel(
  { panel, rewards, stop }: {
    readonly stop: "never" | "auto";
    readonly panel: {
      readonly every: number;
      readonly scales?: readonly number[];
      readonly rewards: readonly { readonly name: string }[];
      readonly imagesPerPrompt: number;
    };
    readonly rewards: readonly { readonly name: string; readonly weight: number }[];
  },
  prompts: number,
): void {
  const names = [...rewards, ...panel.rewards].map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) {
    throw new FieldError("panel.rewards", `has "${twice}" a second time, expected distinct names`);
  }
  const images = prompts * panel.imagesPerPrompt;
  if (panel.every > 0 && images < LEAST_PANEL) {
    throw new FieldError(
      "panel.imagesPerPrompt",
      `makes ${images} images of ${prompts} held-out prompts, expected ${LEAST_PANEL} or more`,
    );
  }
  const asks = stop === "auto" ? 'stop is "auto"' : panel.scales?.length ? "panel.scales" : "";
  if (asks === "") return;
  if (panel.every === 0) {
    throw new FieldError("panel.every", `is 0, expected 1 or more: ${asks}, which needs a panel`);
  }
  if (panel.rewards.length === 0 && !rewards.some(({ weight }) => weight === 0)) {
    throw new FieldError(
      "panel.rewards",
      `is [], expected a reward that is not trained on: ${asks}, which needs a judge`,
    );
  }
  if (prompts < LEAST_PANEL) {
    throw new FieldError(
      "heldOutPrompts",
      `has ${prompts}, expected ${LEAST_PANEL} or more: ${asks}, which compares prompts`,
    );
  }
}
