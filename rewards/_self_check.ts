import { float32 } from "../autodiff/mod.ts";
import { Random } from "../models/random/mod.ts";
import { SelfCheckError } from "./errors.ts";
import type { Images, Reward, SelfCheck } from "./reward.ts";

/** Root mean square change of a pixel: far above float32 rounding of the score, small against its curvature. */
const STEPS = [1e-2, 2e-3];

/** A correct float32 gradient is within a fraction of this. */
const AGREEMENT = 0.03;

const SIDE = 64;
const PROMPT = "a fox, and books";

/**
 * Scores a fixed image and one a random step away, with gradients. Along a straight line the score changes by the mean
 * of the gradients at its ends, to third order, so two runs of the graph that will be served are enough: what they
 * predict is compared with the change itself, in units of the change a random step of that length makes.
 *
 * Throws `SelfCheckError` where score or gradient is not finite and, unless the gradient is by definition not the
 * derivative, where it is zero or disagrees.
 */
export async function selfCheck(
  reward: Reward,
  { side = SIDE, isSurrogate }: { readonly side?: number; readonly isSurrogate: boolean },
): Promise<SelfCheck> {
  const fail = (detail: string): never => {
    throw new SelfCheckError(`Reward ${reward.info.name} failed its self-check: ${detail}`);
  };
  const random = new Random(1);
  const image = testImage(side, random);
  const direction = image.data.map(() => random.normal());
  const evaluate = async (data: Float32Array) => {
    const { scores, gradient } = await reward.score(
      float32(data, image.shape),
      [PROMPT],
      { gradient: true },
    );
    const [score = NaN] = scores;
    const g = gradient?.data ?? new Float32Array();
    const gradientNorm = Math.sqrt(dot(g, g));
    if (!Number.isFinite(score) || !Number.isFinite(gradientNorm)) {
      fail(`the score is ${score} with a gradient of norm ${gradientNorm}, expected finite ones`);
    }
    return { score, g, gradientNorm };
  };
  const from = await evaluate(image.data);
  const { score, gradientNorm } = from;
  if (isSurrogate) return { score, gradientNorm };
  if (gradientNorm === 0) fail("the gradient is zero");
  let relativeError = Infinity;
  for (const step of STEPS) {
    const to = await evaluate(image.data.map((v, i) => v + step * (direction[i] ?? 0)));
    const predicted = 0.5 * step * (dot(from.g, direction) + dot(to.g, direction));
    const error = Math.abs(to.score - score - predicted) / (step * gradientNorm);
    relativeError = Math.min(relativeError, error);
    if (relativeError <= AGREEMENT) return { score, gradientNorm, relativeError };
  }
  return fail(
    `gradient and finite difference differ by ${relativeError.toPrecision(2)} of the gradient's ` +
      `size, expected at most ${AGREEMENT}`,
  );
}

/** Blocks of random colours under weaker pixel noise: structure at the scales rewards look at. */
function testImage(side: number, random: Random): Images {
  const blocks = Math.ceil(side / 8);
  const colours = Float32Array.from(
    { length: 3 * blocks ** 2 },
    () => 0.2 + 0.6 * random.uniform(),
  );
  const data = Float32Array.from({ length: 3 * side * side }, (_, i) => {
    const [x, y, c] = [i % side, Math.floor(i / side) % side, Math.floor(i / side ** 2)];
    return (colours[(c * blocks + (y >> 3)) * blocks + (x >> 3)] ?? 0) +
      0.1 * (random.uniform() - 0.5);
  });
  return float32(data, [1, 3, side, side]);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}
