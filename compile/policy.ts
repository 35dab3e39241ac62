import type { Precision, Target } from "./target.ts";

/** How a graph is written out where there is a choice: what follows from a `Target`. */
export interface Policy {
  /**
   * Bytes of one attention's probabilities above which they are never whole: the gradient recomputes them in blocks of
   * queries.
   */
  readonly attentionMemory: number;
  /** Logits in one such block. */
  readonly attentionBlock: number;
  /** Bytes of a tensor above which the gradient of its group normalization computes that again, group by group. */
  readonly normalizationMemory: number;
  /**
   * Positions (batch, rows and columns) from which a 3x3 convolution of many channels is computed by Winograd's
   * algorithm, in half of the multiplications.
   */
  readonly winograd: number;
  /**
   * Positions from which a transposed convolution of stride 1 is a convolution with its kernel turned round. With fewer it
   * is the runtime's own: kernels are large there, and turning them takes one core as long as the products take two.
   */
  readonly turnedKernels: number;
  /** Models may be written with sizes hidden, where that takes less memory: see `SerializeOptions`. */
  readonly mayHideSizes: boolean;
  /** See `inHalfPrecision`. */
  readonly precision: Precision;
}

const MIB = 2 ** 20;

/**
 * Positions from which convolutions are Winograd's: with fewer, transforming the kernel costs what is spared. Kernels are
 * twice as large transformed, 7 % of the memory of a U-Net's gradient.
 */
const WINOGRAD_POSITIONS = 1024;

/** Every choice made as if nothing were known of the processor, nor of its runtime. */
export const PLAIN_POLICY: Policy = {
  attentionMemory: 16 * MIB,
  // What the second-level cache of a processor's core holds.
  attentionBlock: 2 ** 18,
  normalizationMemory: 32 * MIB,
  winograd: Infinity,
  turnedKernels: 0,
  mayHideSizes: false,
  precision: "float32",
};

/**
 * How graphs are written for a target. A GPU's runtime brings convolutions of its own and waits for each turn of a loop:
 * what takes a small share of the memory is whole there, and blocks of attention are large. Sizes are hidden where that
 * was tried. Graphs that the runtime is to optimize keep their convolutions, which it fuses with their neighbours.
 */
export function policyOf(
  { provider, memory, precision }: Target,
  { isOptimized = false, fold = true }: {
    readonly isOptimized?: boolean;
    /** See `CompileOptions`. */
    readonly fold?: boolean;
  } = {},
): Policy {
  if (provider !== "cpu") {
    const share = memory / 32;
    const whole = { attentionMemory: share, normalizationMemory: share };
    return { ...PLAIN_POLICY, ...whole, attentionBlock: 2 ** 26, precision };
  }
  if (isOptimized) return { ...PLAIN_POLICY, precision };
  return {
    ...PLAIN_POLICY,
    winograd: WINOGRAD_POSITIONS,
    // What is folded is turned once, when it is loaded.
    turnedKernels: fold ? 0 : WINOGRAD_POSITIONS,
    mayHideSizes: true,
    precision,
  };
}
