/** The input samples one output sample is made of: `weights[k]` belongs to sample `first + k`; they sum to 1. */
export interface Taps {
  readonly first: number;
  readonly weights: Float64Array;
}

/** Keys' cubic convolution kernel with a = -0.5, which is zero outside (-2, 2). */
function kernel(distance: number): number {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

/**
 * The taps of output sample `index` when `from` samples are resized to `to`: bicubic, pixel centres at halves, the
 * kernel widened when shrinking so that it low-passes. This is PIL's BICUBIC and torchvision's `antialias=True`.
 */
export function bicubicTaps(index: number, { from, to }: { from: number; to: number }): Taps {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  const center = (index + 0.5) * scale;
  const first = Math.max(Math.trunc(center - support + 0.5), 0);
  const end = Math.min(Math.trunc(center + support + 0.5), from);
  const weights = new Float64Array(end - first);
  let sum = 0;
  for (let k = 0; k < weights.length; k++) {
    const w = kernel((first + k - center + 0.5) * (1 / stretch));
    weights[k] = w;
    sum += w;
  }
  return { first, weights: weights.map((w) => w / sum) };
}
