import { readFile } from "node:fs/promises";
import { z } from "zod";
import { decodeText, fleissKappa, type Share, wilson } from "../../../base/mod.ts";
import { UsageError } from "../command.ts";

const ANSWERS = ["A", "B", "tie"] as const;

/** What the page's blind comparison saves. */
const votesSchema = z.looseObject({
  contestants: z.record(z.enum(["A", "B"]), z.object({ runId: z.string(), step: z.number() })),
  votes: z.array(z.object({
    prompt: z.string(),
    category: z.string(),
    vote: z.enum(ANSWERS),
  })).min(1),
});

/** Votes of one category, of all voters. */
export interface VoteTally {
  readonly category: string;
  /** Pairs that anybody judged. */
  readonly pairs: number;
  /** Pairs by what most voters said; without a majority: a tie. */
  readonly wins: { readonly A: number; readonly ties: number; readonly B: number };
  /** B's share of the pairs with a winner. */
  readonly winRate: Share;
  /** Fleiss' kappa; see `fleissKappa`. */
  readonly kappa: number;
}

/** Votes of several people about the same contestants. */
export interface Votes {
  readonly contestants: Readonly<Record<"A" | "B", string>>;
  readonly voters: number;
  readonly tallies: readonly VoteTally[];
}

/**
 * Puts together what voters saved in the page's blind comparison, a file each, by category and, where there are several,
 * over all. A pair is won by what most voters said. Throws `UsageError` where files are none, or of other contestants.
 */
export async function readVotes(files: readonly string[]): Promise<Votes> {
  const read = await Promise.all(files.map(async (file) => {
    const text = decodeText(await readFile(file), file);
    const parsed = votesSchema.safeParse(jsonOf(text));
    if (parsed.success) return { file, ...parsed.data };
    throw new UsageError(
      `${file} holds no votes, as "Save votes" of a comparison on the page writes them`,
    );
  }));
  const [first] = read;
  if (first === undefined) throw new UsageError("Name files of votes");
  const name = (side: "A" | "B", { contestants }: typeof first) => {
    const { runId, step } = contestants[side];
    return step === 0 ? `${runId} without LoRA` : `${runId}@${step}`;
  };
  const known = { A: name("A", first), B: name("B", first) };
  for (const votes of read) {
    for (const side of ["A", "B"] as const) {
      const found = name(side, votes);
      if (found === known[side]) continue;
      throw new UsageError(`${votes.file} compares ${found} as ${side}, expected ${known[side]}`);
    }
  }
  const pairs = new Map<
    string,
    { readonly category: string; readonly counts: number[] }
  >();
  for (const { votes } of read) {
    const seen = new Map<string, number>();
    for (const { prompt, category, vote } of votes) {
      // Several pictures of a prompt come in the order of their seeds.
      const nth = seen.get(prompt) ?? 0;
      seen.set(prompt, nth + 1);
      const key = `${nth} ${category} ${prompt}`;
      const pair = pairs.get(key) ?? { category, counts: [0, 0, 0] };
      const answer = ANSWERS.indexOf(vote);
      pair.counts[answer] = (pair.counts[answer] ?? 0) + 1;
      pairs.set(key, pair);
    }
  }
  const groups = [...Map.groupBy(pairs.values(), ({ category }) => category)];
  if (groups.length > 1) groups.push(["all", [...pairs.values()]]);
  return {
    contestants: known,
    voters: read.length,
    tallies: groups.map(([category, own]) => tally(category, own.map(({ counts }) => counts))),
  };
}

function tally(category: string, counts: readonly (readonly number[])[]): VoteTally {
  const winner = (own: readonly number[]) => {
    const most = Math.max(...own);
    const leading = own.flatMap((n, i) => n === most ? [ANSWERS[i]] : []);
    return leading.length === 1 ? leading[0] : "tie";
  };
  const count = (side: string) => counts.filter((own) => winner(own) === side).length;
  const wins = { A: count("A"), ties: count("tie"), B: count("B") };
  return {
    ...{ category, pairs: counts.length, wins },
    winRate: wilson(wins.B, wins.A + wins.B),
    kappa: fleissKappa(counts),
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
