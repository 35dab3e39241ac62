import type { Images, Reward } from "../../rewards/mod.ts";

/** Result of checking a loaded reward at a fixed random image and prompt. */
export interface SelfCheck {
  readonly score: number;
  /** L2 norm of d score / d image. */
  readonly gradientNorm: number;
  /** |finite difference - g.d| / |g.d| along a direction d, at the best of several step sizes. */
  readonly relativeError: number;
  /** `relativeError` is at most `AGREEMENT`. */
  readonly agrees: boolean;
}

/** A float32 score at these step sizes is differenced to a fraction of this. */
const AGREEMENT = 0.02;
const SIDE = 64;
const PROMPT = "a fox, and books";
/** Root mean square change of a pixel. Curvature spoils large steps, rounding small ones. */
const STEPS = [1e-3, 1e-4, 1e-2];

/**
 * Scores one image and checks the gradient against a finite difference along d, which is the gradient at a random
 * half of the pixels: along the whole gradient an error at right angles to it would not show.
 * Throws an `Error` when score or gradient is not finite or the gradient is zero: such a reward cannot train anything.
 * A gradient that disagrees is reported only, for rewards may declare one that is not the score's derivative.
 */
export async function selfCheck(reward: Reward): Promise<SelfCheck> {
  const { name } = reward.info;
  const random = mulberry32(1);
  const image = smoothNoise(random);
  const { scores, gradient } = await reward.score(image, [PROMPT], { gradient: true });
  const score = scores[0] ?? NaN;
  if (!Number.isFinite(score)) throw new Error(`Reward ${name} scores ${score} in its self-check`);
  if (!gradient) throw new Error(`Reward ${name} gives no gradient`);
  const g = gradient.data;
  const gradientNorm = norm(g);
  if (!Number.isFinite(gradientNorm) || gradientNorm === 0) {
    throw new Error(
      `Reward ${name} has a gradient of norm ${gradientNorm} in its self-check, expected finite and not zero`,
    );
  }
  const direction = g.map((value) => random() < 0.5 ? value : 0);
  const length = norm(direction);
  let relativeError = Infinity;
  for (const step of STEPS) {
    const scale = step * Math.sqrt(g.length) / length;
    const [above, below] = await Promise.all([scale, -scale].map(async (scale) => {
      const data = image.data.map((value, i) => value + scale * (direction[i] ?? 0));
      const { scores } = await reward.score({ ...image, data }, [PROMPT]);
      return scores[0] ?? NaN;
    }));
    // g.d / |d| is |d|, as d is g where it is not zero.
    const difference = ((above ?? NaN) - (below ?? NaN)) / (2 * step * Math.sqrt(g.length));
    relativeError = Math.min(relativeError, Math.abs(difference - length) / length);
    if (relativeError <= AGREEMENT) break;
  }
  return { score, gradientNorm, relativeError, agrees: relativeError <= AGREEMENT };
}

/** Blocks of 8 x 8 random colours under weaker pixel noise: structure at the scales rewards look at. */
function smoothNoise(random: () => number): Images {
  const blocks = Float32Array.from({ length: 3 * (SIDE / 8) ** 2 }, () => 0.2 + 0.6 * random());
  const data = new Float32Array(3 * SIDE * SIDE);
  for (let i = 0; i < data.length; i++) {
    const c = Math.floor(i / (SIDE * SIDE));
    const y = Math.floor(i / SIDE) % SIDE >> 3;
    const x = i % SIDE >> 3;
    data[i] = (blocks[(c * (SIDE / 8) + y) * (SIDE / 8) + x] ?? 0) + 0.1 * (random() - 0.5);
  }
  return { dtype: "float32", shape: [1, 3, SIDE, SIDE], data };
}

function norm(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

/** A small seeded generator of numbers in [0, 1) (Tommy Ettinger's mulberry32). */
function mulberry32(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
