import { type Share, summarise, type Summary, wilson } from "../../../base/mod.ts";

/** Scores of the same prompt and seed on both sides, by the reward's name. */
export interface ComparedPair {
  readonly prompt: string;
  readonly category: string;
  readonly seed: number;
  readonly a: Readonly<Record<string, number>>;
  readonly b: Readonly<Record<string, number>>;
}

/** One reward over the pairs of a category. */
export interface Comparison {
  readonly category: string;
  readonly reward: string;
  readonly pairs: number;
  readonly prompts: number;
  readonly a: number;
  readonly b: number;
  /** b minus a: mean over prompts, and its 95 % interval. */
  readonly difference: Summary;
  /** Pairs in which a, neither, or b has the better score. */
  readonly wins: { readonly a: number; readonly ties: number; readonly b: number };
  /** b's share of the pairs that somebody won. */
  readonly winRate: Share;
}

/**
 * Compares two sides by every reward, category by category and, where there are several, all together. Pictures of one
 * prompt are no independent cases, so that intervals are over prompts: of the difference Student's of the prompts'
 * means, of the win rate Wilson's for as many cases as there are prompts with a winner.
 */
export function comparePairs(
  pairs: readonly ComparedPair[],
  isUp: (reward: string) => boolean,
): readonly Comparison[] {
  const categories = [...Map.groupBy(pairs, ({ category }) => category)];
  const rewards = [...new Set(pairs.flatMap(({ a }) => Object.keys(a)))];
  const groups = categories.length > 1 ? [...categories, ["all", pairs] as const] : categories;
  return rewards.flatMap((reward) =>
    groups.map(([category, own]) => compare(own, { category, reward, isUp: isUp(reward) }))
  );
}

function compare(
  all: readonly ComparedPair[],
  { category, reward, isUp }: {
    readonly category: string;
    readonly reward: string;
    readonly isUp: boolean;
  },
): Comparison {
  // A detector says nothing about prompts that name no object.
  const pairs = all.filter(({ a, b }) => a[reward] !== undefined && b[reward] !== undefined);
  const scores = (side: "a" | "b") => pairs.map((pair) => pair[side][reward] ?? NaN);
  const prompts = [...Map.groupBy(pairs, ({ prompt }) => prompt).values()].map((own) =>
    own.map(({ a, b }) => (b[reward] ?? NaN) - (a[reward] ?? NaN))
  );
  const count = (wanted: number) =>
    prompts.flat().filter((d) => Math.sign(isUp ? d : -d) === wanted).length;
  const wins = { a: count(-1), ties: count(0), b: count(1) };
  const decided = prompts.filter((differences) => differences.some((d) => d !== 0)).length;
  const share = wins.b / (wins.a + wins.b);
  return {
    ...{ category, reward, pairs: pairs.length, prompts: prompts.length },
    ...{ a: summarise(scores("a")).mean, b: summarise(scores("b")).mean, wins },
    difference: summarise(prompts.map((differences) => summarise(differences).mean)),
    winRate: wilson(decided === 0 ? 0 : share * decided, decided),
  };
}
