/** The input samples one output sample is made of: `weights[k]` belongs to sample `first + k`; they sum to 1. */
export interface Taps {
  readonly first: number;
  readonly weights: Float64Array;
}

/** How samples between pixels are found; both low-pass when shrinking. */
export type Resample = "bicubic" | "bilinear";

/** One axis of a resize, in samples. */
export interface Resize {
  readonly from: number;
  readonly to: number;
  /** Default "bicubic". */
  readonly resample?: Resample;
}

interface Kernel {
  /** Zero at this distance and beyond. */
  readonly support: number;
  readonly weigh: (distance: number) => number;
}

const KERNELS: Readonly<Record<Resample, Kernel>> = {
  // Keys' cubic convolution with a = -0.5.
  bicubic: {
    support: 2,
    weigh: (x) =>
      x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0,
  },
  bilinear: { support: 1, weigh: (x) => Math.max(1 - x, 0) },
};

/**
 * The taps of output sample `index`: pixel centres at halves, the kernel widened when shrinking so that it
 * low-passes. This is PIL's BICUBIC and BILINEAR, and torchvision's with `antialias=True`.
 */
export function resizeTaps(index: number, { from, to, resample = "bicubic" }: Resize): Taps {
  const { support: reach, weigh } = KERNELS[resample];
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  const center = (index + 0.5) * scale;
  const first = Math.max(Math.trunc(center - support + 0.5), 0);
  const end = Math.min(Math.trunc(center + support + 0.5), from);
  const weights = new Float64Array(end - first);
  let sum = 0;
  for (let k = 0; k < weights.length; k++) {
    const w = weigh(Math.abs(first + k - center + 0.5) * (1 / stretch));
    weights[k] = w;
    sum += w;
  }
  return { first, weights: weights.map((w) => w / sum) };
}
