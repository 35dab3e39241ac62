import { type Share, wilson } from "../../../base/statistics/mod.ts";

/** What is compared. */
export type Side = "A" | "B";

/** What somebody preferred; "tie" when neither. */
export type Choice = "left" | "right" | "tie";

/** The same prompt and seed drawn by both, and which of them stands on the left. */
export interface Pair<Image> {
  readonly prompt: string;
  readonly category: string;
  readonly left: Side;
  readonly images: Readonly<Record<Side, Image>>;
}

/** Votes of a category, and the share of B among those that are no ties. */
export interface Tally extends Share {
  readonly category: string;
  readonly A: number;
  readonly B: number;
  readonly ties: number;
}

/** A blind comparison: nobody is told which side is which before all pairs are judged. */
export class BlindComparison<Image> {
  readonly #random: () => number;
  readonly #pairs: Pair<Image>[] = [];
  readonly #votes: (Side | "tie")[] = [];

  /** @param random uniform in [0, 1); says which of a pair stands on the left */
  constructor(random: () => number = uniform) {
    this.#random = random;
  }

  get pairs(): readonly Pair<Image>[] {
    return this.#pairs;
  }

  /** How many pairs are judged. */
  get judged(): number {
    return this.#votes.length;
  }

  /** The pair to judge now; undefined where none waits. */
  get current(): Pair<Image> | undefined {
    return this.#pairs[this.#votes.length];
  }

  add(pair: Omit<Pair<Image>, "left">): void {
    this.#pairs.push({ ...pair, left: this.#random() < 0.5 ? "A" : "B" });
  }

  vote(choice: Choice): void {
    const pair = this.current;
    if (pair === undefined) return;
    const right = pair.left === "A" ? "B" : "A";
    this.#votes.push(choice === "tie" ? "tie" : choice === "left" ? pair.left : right);
  }

  /** Takes the last vote back. */
  undo(): void {
    this.#votes.pop();
  }

  /** Votes by category, and over all where there is more than one. */
  tallies(): Tally[] {
    const judged = this.#pairs.slice(0, this.#votes.length);
    const categories = [...new Set(judged.map(({ category }) => category))];
    const tally = (category: string, of: (pair: Pair<Image>) => boolean): Tally => {
      const votes = this.#votes.filter((_, i) => {
        const pair = judged[i];
        return pair !== undefined && of(pair);
      });
      const count = (vote: Side | "tie") => votes.filter((v) => v === vote).length;
      const [A, B, ties] = [count("A"), count("B"), count("tie")];
      return { category, A, B, ties, ...wilson(B, A + B) };
    };
    const each = categories.map((name) => tally(name, ({ category }) => category === name));
    return each.length > 1 ? [...each, tally("all", () => true)] : each;
  }

  /** The votes one by one, to be kept. */
  votes(): { prompt: string; category: string; left: Side; vote: Side | "tie" }[] {
    return this.#votes.flatMap((vote, i) => {
      const pair = this.#pairs[i];
      return pair ? [{ prompt: pair.prompt, category: pair.category, left: pair.left, vote }] : [];
    });
  }
}

/** Prompts by lines; a line that begins with "#" names the category of those that follow. */
export function parsePrompts(text: string): { prompt: string; category: string }[] {
  let category = "all";
  return text.split("\n").map((line) => line.trim()).flatMap((line) => {
    if (line.startsWith("#")) category = line.slice(1).trim() || "all";
    return line === "" || line.startsWith("#") ? [] : [{ prompt: line, category }];
  });
}

/** Nobody could guess it. */
function uniform(): number {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) / 2 ** 32;
}
