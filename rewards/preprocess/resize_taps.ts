/** The input samples one output sample is made of: `weights[k]` belongs to sample `first + k`; they sum to 1. */
export interface Taps {
  readonly first: number;
  readonly weights: Float64Array;
}

/** Pillow's filters: how samples between pixels are found. All but "nearest" low-pass when shrinking. */
export type Resample = "nearest" | "box" | "bilinear" | "hamming" | "bicubic" | "lanczos";

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

const sinc = (x: number) => x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);

const KERNELS: Readonly<Record<Exclude<Resample, "nearest">, Kernel>> = {
  box: { support: 0.5, weigh: (x) => x <= 0.5 ? 1 : 0 },
  // Keys' cubic convolution with a = -0.5.
  bicubic: {
    support: 2,
    weigh: (x) =>
      x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0,
  },
  bilinear: { support: 1, weigh: (x) => Math.max(1 - x, 0) },
  hamming: {
    support: 1,
    weigh: (x) => x < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0,
  },
  lanczos: { support: 3, weigh: (x) => x < 3 ? sinc(x) * sinc(x / 3) : 0 },
};

/**
 * The taps of output sample `index`: pixel centres at halves, the kernel widened when shrinking so that it
 * low-passes. These are PIL's filters, and torchvision's with `antialias=True`.
 */
export function resizeTaps(index: number, { from, to, resample = "bicubic" }: Resize): Taps {
  const scale = from / to;
  if (resample === "nearest") {
    return { first: Math.floor((index + 0.5) * scale), weights: Float64Array.of(1) };
  }
  const { support: reach, weigh } = KERNELS[resample];
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
