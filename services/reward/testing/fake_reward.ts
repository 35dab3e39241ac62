import { type Reward, RewardInputError } from "../../../rewards/mod.ts";

/** What a fake reward does beside scoring. */
export interface FakeRecord {
  readonly name?: string;
  /** Factor on everything. Default 1. */
  readonly scale?: number;
  /** Default false. */
  readonly readsPrompt?: boolean;
  /** Called in every run, with its images and prompts. */
  readonly onRun?: (count: number, prompts: readonly string[]) => Promise<void> | void;
}

/**
 * A reward of closed form: score = scale * mean of the pixels + length of the prompt (where it reads it), gradient =
 * scale / (3 H W) everywhere. Reference processing adds 100. The prompt "refuse" is refused, "nan" scores NaN, "fault" throws.
 * Prompts that end with "…" count as cut.
 */
export function fakeReward(
  { name = "fake", scale = 1, readsPrompt = false, onRun }: FakeRecord = {},
): Reward {
  return {
    info: {
      name,
      kind: "fake",
      direction: "minimise",
      range: [0, Infinity],
      readsPrompt,
      preprocessing: "none",
      fileProcessing: "reference",
      digest: `scale ${scale}`,
      provider: "cpu",
      selfCheck: { score: 1, gradientNorm: 0.5 },
    },
    async score(images, prompts, { gradient = false, processing } = {}) {
      const [count = 0] = images.shape;
      await onRun?.(count, prompts);
      if (prompts.includes("refuse")) throw new RewardInputError("Prompt is refused");
      if (prompts.includes("fault")) throw new Error("Secret of the reward");
      const width = images.data.length / count;
      const scores = Float32Array.from({ length: count }, (_, i) => {
        if (prompts[i] === "nan") return NaN;
        let sum = 0;
        for (const value of images.data.subarray(i * width, (i + 1) * width)) sum += value;
        const mark = processing === "reference" ? 100 : 0;
        return scale * sum / width + (readsPrompt ? prompts[i]?.length ?? NaN : 0) + mark;
      });
      const truncated = prompts.flatMap((prompt, i) => prompt.endsWith("…") ? [i] : []);
      const result = { scores, ...(truncated.length > 0 && { truncated }) };
      if (!gradient) return result;
      const data = new Float32Array(images.data.length).fill(scale / width);
      return { ...result, gradient: { ...images, data } };
    },
    dispose: () => Promise.resolve(),
  };
}
