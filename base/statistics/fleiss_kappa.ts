/**
 * Fleiss' kappa: how far voters agree beyond what the frequencies of their answers alone would give; 1 is agreement in
 * everything, 0 that of chance. NaN where all answers are the same one, for then chance explains everything. Subjects
 * with fewer than two votes say nothing and are left out; votes of different number are weighed as pairs of voters
 * (Fleiss 1971 has the same number for all).
 *
 * @param subjects for each subject how many voters gave each answer, answers in one order
 */
export function fleissKappa(subjects: readonly (readonly number[])[]): number {
  const voted = subjects.map((counts) => ({ counts, votes: sum(counts) }))
    .filter(({ votes }) => votes >= 2);
  const all = sum(voted.map(({ votes }) => votes));
  const answers = Math.max(0, ...voted.map(({ counts }) => counts.length));
  const pairs = sum(voted.map(({ votes }) => votes * (votes - 1)));
  const agreeing = sum(voted.map(({ counts }) => sum(counts.map((n) => n * (n - 1)))));
  const observed = agreeing / pairs;
  const expected = sum(
    Array.from(
      { length: answers },
      (_, i) => (sum(voted.map(({ counts }) => counts[i] ?? 0)) / all) ** 2,
    ),
  );
  return (observed - expected) / (1 - expected);
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
