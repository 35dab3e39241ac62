import { paired } from "./_paired.ts";
import { byPrompt } from "./evidence.ts";
import type { PanelMeasurement } from "./panel.ts";

/** A LoRA that may be taken: a checkpoint's at a scale, with what the panel says of it. */
export interface Candidate extends PanelMeasurement {
  readonly scale: number;
}

/** A candidate as it compares. */
export interface Compared {
  readonly candidate: Candidate;
  /** Mean over the panel. */
  readonly trained: number;
  /** Judges that are worse than at their best, by the 95 % interval of the differences of prompts. */
  readonly objections: readonly string[];
}

/**
 * The LoRA to take: of those to which the fewest judges object, the one that what is trained likes best. A judge objects where
 * it is below its best mean of all measurements and candidates, paired by prompt. Answers all as they compare, the chosen
 * first.
 */
export function choose(
  candidates: readonly Candidate[],
  { measurements, imagesPerPrompt }: {
    readonly measurements: readonly PanelMeasurement[];
    readonly imagesPerPrompt: number;
  },
): readonly Compared[] {
  const scores = (m: PanelMeasurement, judge: string) =>
    byPrompt(m.heldOut[judge] ?? [], imagesPerPrompt);
  const compared = candidates.map((candidate): Compared => {
    const objections = Object.keys(candidate.heldOut).filter((judge) => {
      const known = [...measurements, ...candidates].filter((m) => m.heldOut[judge] !== undefined);
      const best = known.map((m) => scores(m, judge)).reduce((a, b) => mean(b) > mean(a) ? b : a);
      return paired(best, scores(candidate, judge)).high < 0;
    });
    return { candidate, trained: mean(candidate.trained), objections };
  });
  return compared.toSorted((a, b) =>
    a.objections.length - b.objections.length || b.trained - a.trained
  );
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
