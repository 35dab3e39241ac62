import { batchOf, type Float32Tensor, sliceBatch } from "../tensors.ts";
import { paired } from "./_paired.ts";

/** One measurement of a panel: the same prompts and seeds each time, so that image i may be compared with image i. */
export interface PanelMeasurement {
  /** Iterations done. */
  readonly step: number;
  /** What is trained on, per image: the mixture's sum of rewards, greater is better. */
  readonly trained: readonly number[];
  /** Rewards that are not trained on, per image, greater is better. */
  readonly heldOut: Readonly<Record<string, readonly number[]>>;
  /** See `diversity`. */
  readonly diversity: number;
}

/**
 * Why `now` is a sign of reward hacking: "" where it is none. `before` are the earlier measurements of the same mixture,
 * oldest first.
 *
 * A held-out reward raises the alarm when it is below its best earlier measurement while what is trained is above what
 * it was then; both by the 95 % confidence interval of the paired differences. Diversity raises it when it is below
 * `minDiversity` times the first measurement's while what is trained has risen since.
 */
export function findAlarm(
  now: PanelMeasurement,
  before: readonly PanelMeasurement[],
  { minDiversity }: { readonly minDiversity: number },
): string {
  const reasons: string[] = [];
  const risen = (then: PanelMeasurement) => paired(then.trained, now.trained).low > 0;
  for (const [name, scores] of Object.entries(now.heldOut)) {
    const [best] = before.filter((m) => m.heldOut[name] !== undefined)
      .toSorted((a, b) => mean(b.heldOut[name]) - mean(a.heldOut[name]));
    if (best === undefined || !risen(best)) continue;
    const fall = paired(best.heldOut[name] ?? [], scores);
    if (fall.high < 0) {
      reasons.push(
        `${name} is ${short(-fall.mean)} worse than at step ${best.step} (95 % interval ${
          short(-fall.high)
        } to ${short(-fall.low)})`,
      );
    }
  }
  const [first] = before;
  if (first !== undefined && now.diversity < minDiversity * first.diversity && risen(first)) {
    reasons.push(
      `diversity is ${short(now.diversity)}, below ${minDiversity} of the ${
        short(first.diversity)
      } at step ${first.step}`,
    );
  }
  return reasons.length === 0 ? "" : `The trained reward rises, but ${reasons.join(", and ")}`;
}

const mean = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0) / values.length;
const short = (v: number) => String(Number(v.toPrecision(3)));

/** Longest side of a thumbnail. */
const SIDE = 32;

/**
 * Mean distance of two images of a set, over all pairs: root of the mean squared difference of their pixels, clamped
 * to [0, 1] and reduced to at most 32 pixels a side by averaging blocks. 0 for a single image.
 */
export function diversity(thumbnails: readonly Float32Array[]): number {
  let [sum, pairs] = [0, 0];
  for (const [i, a] of thumbnails.entries()) {
    for (const b of thumbnails.slice(i + 1)) {
      let squares = 0;
      for (let p = 0; p < a.length; p++) squares += ((a[p] ?? 0) - (b[p] ?? 0)) ** 2;
      sum += Math.sqrt(squares / a.length);
      pairs++;
    }
  }
  return pairs === 0 ? 0 : sum / pairs;
}

/** What `diversity` looks at, of each image [B, C, H, W]. */
export function thumbnails(images: Float32Tensor): Float32Array[] {
  const [, channels = 1, height = 1, width = 1] = images.shape;
  const block = Math.ceil(Math.max(height, width) / SIDE);
  const [h, w] = [Math.ceil(height / block), Math.ceil(width / block)];
  return Array.from({ length: batchOf(images) }, (_, i) => {
    const { data } = sliceBatch(images, i, i + 1);
    const out = new Float32Array(channels * h * w);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const pixel = Math.min(1, Math.max(0, data[(c * height + y) * width + x] ?? 0));
          const at = (c * h + Math.floor(y / block)) * w + Math.floor(x / block);
          const area = Math.min(block, height - block * Math.floor(y / block)) *
            Math.min(block, width - block * Math.floor(x / block));
          out[at] = (out[at] ?? 0) + pixel / area;
        }
      }
    }
    return out;
  });
}
