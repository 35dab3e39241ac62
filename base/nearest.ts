/**
 * The word that was probably meant: the only one that begins with at least three letters that were given, or the nearest
 * by edits, where no more than a third of the letters differ.
 */
export function nearest(word: string, words: Iterable<string>): string | undefined {
  const candidates = [...words];
  const [longer, ...others] = candidates.filter((candidate) => candidate.startsWith(word));
  if (word.length >= 3 && longer !== undefined && others.length === 0) return longer;
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    // At least so many letters are added or dropped: a word may be a megabyte.
    if (Math.abs(candidate.length - word.length) >= least) continue;
    const count = edits(word, candidate);
    if (count < least) [best, least] = [candidate, count];
  }
  return best;
}

/** Letters to add, drop, replace, or swap with their neighbour (optimal string alignment). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const at = (cells: readonly number[], k: number) => cells[k] ?? Infinity;
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row.push(Math.min(
        at(last, j) + 1,
        at(row, j - 1) + 1,
        at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
        swapped ? at(before, j - 2) + 1 : Infinity,
      ));
    }
    [before, last] = [last, row];
  }
  return last[b.length] ?? Infinity;
}
