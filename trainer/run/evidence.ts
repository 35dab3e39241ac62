import { studentWithin } from "../../base/mod.ts";
import type { PanelMeasurement } from "./panel.ts";

/** c² of the effects that are looked for: mean over deviation is normal of variance 1 / c². */
const PRIOR = 0.25;

/**
 * The e-value of differences against "their mean is 0 or more": how much better a mean below 0 explains them, on average at
 * most 1 where it is not. It is the Bayes factor of the t-test of Wang and Ramdas (arXiv 2310.03722) for independent normal
 * differences of unknown deviation, with a Gaussian prior on effects, of which only the half below 0 counts. 1 where all
 * differences are 0.
 */
export function evidenceOfFall(differences: readonly number[]): number {
  const n = differences.length;
  const sum = differences.reduce((a, b) => a + b, 0);
  const squares = differences.reduce((a, b) => a + b * b, 0);
  if (n === 0 || squares === 0) return 1;
  const unexplained = squares - sum ** 2 / (n + PRIOR);
  const factor = Math.sqrt(PRIOR / (n + PRIOR)) * (squares / unexplained) ** (n / 2);
  // Under the alternative the mean is Student's with n degrees of freedom, around this many of its deviations.
  const t = sum / (n + PRIOR) / Math.sqrt(unexplained / (n * (n + PRIOR)));
  const within = studentWithin(Math.abs(t), n);
  return factor * (t < 0 ? 1 + within : 1 - within);
}

/** What measurements of a panel say together against "no judge ever becomes worse". */
export interface Evidence {
  /** On average at most 1 where none does, however long one looks: 1 / α is reached with a chance of at most α. */
  readonly value: number;
  /** The comparison that says most: a judge, and the step since which it is worse at the last measurement. */
  readonly most: { readonly judge: string; readonly since: number; readonly fall: number };
}

/**
 * Evidence that a held-out judge has become worse, of measurements at the same prompts and seeds, oldest first. The
 * measurement t = 1, 2, ... after the first is compared with each before it, judge by judge, prompt by prompt (the images of a
 * prompt are not independent): E_t is the mean of those e-values, and the evidence is the sum of E_t / (t (t + 1)). E-values
 * may depend on one another in any way, as those of the same images do: their weighted mean is one again (Vovk and Wang,
 * arXiv 1912.06116), and as nothing is ever taken away from this one, looking at it again and again is free.
 *
 * @param imagesPerPrompt that stand together in a measurement
 */
export function evidenceOf(
  measurements: readonly PanelMeasurement[],
  { imagesPerPrompt }: { readonly imagesPerPrompt: number },
): Evidence | undefined {
  let value = 0;
  let most: Evidence["most"] & { readonly evidence: number } | undefined;
  for (const [t, now] of measurements.entries()) {
    const found = measurements.slice(0, t).flatMap((then) =>
      Object.entries(now.heldOut).flatMap(([judge, scores]) => {
        const before = then.heldOut[judge];
        if (before === undefined) return [];
        const fall = byPrompt(scores.map((s, i) => s - (before[i] ?? NaN)), imagesPerPrompt);
        const mean = fall.reduce((a, b) => a + b, 0) / fall.length;
        return [{ evidence: evidenceOfFall(fall), judge, since: then.step, fall: -mean }];
      })
    );
    if (found.length === 0) continue;
    value += found.reduce((sum, { evidence }) => sum + evidence, 0) / found.length / (t * (t + 1));
    if (t < measurements.length - 1) continue;
    most = found.reduce((a, b) => b.evidence > a.evidence ? b : a);
  }
  if (most === undefined) return undefined;
  const { judge, since, fall } = most;
  return { value, most: { judge, since, fall } };
}

/** Means over the images of each prompt, which stand together. */
export function byPrompt(perImage: readonly number[], imagesPerPrompt: number): readonly number[] {
  return Array.from({ length: perImage.length / imagesPerPrompt }, (_, prompt) => {
    const own = perImage.slice(prompt * imagesPerPrompt, (prompt + 1) * imagesPerPrompt);
    return own.reduce((a, b) => a + b, 0) / own.length;
  });
}
