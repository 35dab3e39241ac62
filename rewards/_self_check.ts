import { float32 } from "../autodiff/mod.ts";
import { Random } from "../models/random/mod.ts";
import { SelfCheckError } from "./errors.ts";
import type { Extent } from "./preprocess/mod.ts";
import type { Images, Reward, SelfCheck } from "./reward.ts";

/**
 * Root mean square change of a pixel, tried in this order: curvature and jumps spoil large steps, rounding small ones.
 * Those in which rounding would hide the change are passed over.
 */
const STEPS = [1e-4, 1e-3, 1e-2, 1e-5, 1e-1, 1e-6, 1e-7];

/** A correct float32 gradient is within a fraction of this, but for rewards with jumps, as JPEG's surrogate. */
const AGREEMENT = 0.03;

/** Random directions that are tried. One in which they agree is enough: a wrong gradient agrees in hardly any. */
const DIRECTIONS = 3;

/** What a score is rounded by, as a share of its size: two of its last places on either side. */
const ROUNDING = { float32: 2 ** -21, float16: 2 ** -9 };

/** Most of a predicted change that rounding may be. */
const HIDDEN = 0.1;

const EXTENT: Extent = { height: 64, width: 64 };
const PROMPT = "a fox, and books";

/** What a reward is checked with. */
export interface SelfCheckOptions {
  /** Size of the image. */
  readonly extent?: Extent;
  /** The gradient is by definition not the derivative: it must be finite, no more. */
  readonly isSurrogate: boolean;
  /** The score is rounded to float16 on the way. */
  readonly computesInHalf?: boolean | undefined;
}

/**
 * Scores a fixed image and one a step away, with gradients. Along a straight line the score changes by the mean of the
 * gradients at its ends, to third order, so two runs of the graph that will be served are enough: what they predict is
 * compared with the change itself. The step is along the gradient, where the change stands out from rounding most, but
 * at a random half of the pixels only: along all of it an error at right angles would not show.
 *
 * A score that hardly moves, as a probability near 1 does, changes by less than its own float steps: only steps of
 * which the prediction is ten times the rounding are taken to say something. Where there is none, nothing is known: the
 * result has no `relativeError` and says so.
 *
 * Throws `SelfCheckError` where score or gradient is not finite and, unless the gradient is by definition not the
 * derivative, where it is zero or disagrees in every direction.
 */
export async function selfCheck(
  reward: Reward,
  { extent = EXTENT, isSurrogate, computesInHalf = false }: SelfCheckOptions,
): Promise<SelfCheck> {
  const fail = (detail: string): never => {
    throw new SelfCheckError(`Reward ${reward.info.name} failed its self-check: ${detail}`);
  };
  const random = new Random(1);
  const image = testImage(extent, random);
  const evaluate = async (data: Float32Array) => {
    const { scores: [score = NaN], gradient } = await reward.score(
      float32(data, image.shape),
      [PROMPT],
      { gradient: true },
    );
    const g = gradient?.data ?? new Float32Array();
    const gradientNorm = Math.sqrt(dot(g, g));
    if (!Number.isFinite(score) || !Number.isFinite(gradientNorm)) {
      fail(`the score is ${score} with a gradient of norm ${gradientNorm}, expected finite ones`);
    }
    return { score, g, gradientNorm };
  };
  const { score, g, gradientNorm } = await evaluate(image.data);
  if (isSurrogate) return { score, gradientNorm };
  if (gradientNorm === 0) fail("the gradient is zero");
  const rounding = Math.abs(score) * ROUNDING[computesInHalf ? "float16" : "float32"];
  let relativeError = Infinity;
  for (let i = 0; i < DIRECTIONS; i++) {
    const half = halfOf(g, random);
    const scale = Math.sqrt(half.length / dot(half, half));
    const direction = half.map((value) => value * scale);
    const slope = Math.abs(dot(g, direction));
    for (const step of STEPS) {
      if (rounding > HIDDEN * step * slope) continue;
      const data = image.data.map((value, k) => value + step * (direction[k] ?? 0));
      const end = await evaluate(data);
      // The step as float32 pixels have it.
      const taken = data.map((value, k) => value - (image.data[k] ?? 0));
      const predicted = (dot(g, taken) + dot(end.g, taken)) / 2;
      const error = Math.abs(end.score - score - predicted);
      relativeError = Math.min(relativeError, error / Math.abs(predicted));
      if (error <= AGREEMENT * Math.abs(predicted) + rounding) {
        return { score, gradientNorm, relativeError };
      }
    }
  }
  if (relativeError === Infinity) return { score, gradientNorm, isHidden: true };
  return fail(
    `finite difference and gradient differ by ${relativeError.toPrecision(2)} of their size, ` +
      `expected at most ${AGREEMENT}`,
  );
}

/** A random half of values that are not all zero, the others zero; of those that hardly any differ from zero, one that does. */
function halfOf(values: Float32Array, random: Random): Float32Array {
  while (true) {
    const half = values.map((value) => random.uniform() < 0.5 ? value : 0);
    if (dot(half, half) > 0) return half;
  }
}

/** Blocks of random colours under weaker pixel noise: structure at the scales rewards look at. */
function testImage({ height, width }: Extent, random: Random): Images {
  const [rows, columns] = [Math.ceil(height / 8), Math.ceil(width / 8)];
  const colours = Float32Array.from(
    { length: 3 * rows * columns },
    () => 0.2 + 0.6 * random.uniform(),
  );
  const data = Float32Array.from({ length: 3 * height * width }, (_, i) => {
    const [x, line] = [i % width, Math.floor(i / width)];
    const [y, c] = [line % height, Math.floor(line / height)];
    const colour = colours[(c * rows + (y >> 3)) * columns + (x >> 3)] ?? 0;
    return colour + 0.1 * (random.uniform() - 0.5);
  });
  return float32(data, [1, 3, height, width]);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}
