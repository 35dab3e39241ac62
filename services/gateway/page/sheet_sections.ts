/** An image that was drawn, with what rewards say of it so far. */
export interface DrawnImage {
  readonly prompt: string;
  readonly seed: number;
  /** A blob URL of its PNG file. */
  readonly url: string;
  readonly scores: Record<string, number>;
}

/** A part of a sheet. */
export interface SheetSection {
  /** "" where there is one part. */
  readonly title: string;
  readonly images: readonly DrawnImage[];
}

/** What the sheet is ordered by; which images stay. */
export interface SheetOrder {
  /** "": as they were drawn. */
  readonly reward: string;
  /** Of the best and of the worst; 0: all. */
  readonly ends: number;
}

/**
 * The images in order, in one part or as the best and the worst. Those without the score stand last. Scores, which come
 * as services answer, stand under every image in the order of `better`.
 */
export function sectionsOf(
  drawn: readonly DrawnImage[],
  { reward, ends }: SheetOrder,
  better: ReadonlyMap<string, string>,
): SheetSection[] {
  const names = [...better.keys()];
  const images = drawn.map((image) => ({
    ...image,
    scores: Object.fromEntries(
      Object.entries(image.scores).sort(([a], [b]) => names.indexOf(a) - names.indexOf(b)),
    ),
  }));
  if (reward === "") return [{ title: "", images }];
  const sign = better.get(reward) === "smaller" ? 1 : -1;
  const of = ({ scores }: DrawnImage) => {
    const score = scores[reward];
    return score === undefined || Number.isNaN(score) ? Infinity : sign * score;
  };
  const sorted = images.toSorted((a, b) => {
    const [x, y] = [of(a), of(b)];
    return x === y ? 0 : x - y;
  });
  if (ends === 0 || sorted.length <= ends) return [{ title: "", images: sorted }];
  const best = sorted.slice(0, ends);
  const worst = sorted.slice(Math.max(ends, sorted.length - ends));
  return [
    { title: `Best by ${reward}`, images: best },
    { title: `Worst by ${reward}`, images: worst },
  ];
}
