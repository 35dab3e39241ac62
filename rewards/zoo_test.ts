import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { float32 } from "../autodiff/mod.ts";
import { openSafetensors } from "../models/weights/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { TEST_PROVIDER } from "../runtime/testing/mod.ts";
import { close, largestOf } from "./_test_close.ts";
import { loadImageTensor } from "./images/load_image_tensor.ts";
import { loadReward } from "./load_reward.ts";
import type { RewardConfigInput } from "./registry.ts";

// Made by testdata/make_zoo_scores.py with PyTorch in float64.
const PATH = fileURLToPath(new URL("testdata/zoo_scores.safetensors", import.meta.url));
const ZOO = fileURLToPath(new URL("../zoo/rewards/", import.meta.url));
const PROMPTS = [
  "a fox, and books",
  "Three RED cats!",
  `a dog and ${"very ".repeat(40)}big cat`,
];

/** float32 beside the largest of the scores, 15. */
const SCORE_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 2e-5;

const CONFIGS: readonly RewardConfigInput[] = [
  { kind: "clip", weights: "clip" },
  { kind: "pickscore", weights: "pickscore" },
  { kind: "hpsv2", weights: "hpsv2" },
  { kind: "aesthetic", weights: "clip", head: "aesthetic/aesthetic_tiny.pth" },
  { kind: "owlvit", weights: "owlvit", query: "book" },
];

Deno.test("The embedded models score as in PyTorch, whatever the image's size", async (t) => {
  const expected = openSafetensors(PATH);
  const engine = await openEngine({ isolation: "in-process" });
  const cacheDir = await Deno.makeTempDir();
  for (const config of CONFIGS) {
    await t.step(config.kind, async () => {
      const reward = await loadReward(config, {
        provider: TEST_PROVIDER,
        engine,
        cacheDir,
        baseDir: ZOO,
      });
      for (const [i, prompt] of PROMPTS.entries()) {
        const images = await loadImageTensor(`${PATH}#image.${i}`);
        const { scores, gradient, truncated } = await reward.score(images, [prompt], {
          gradient: true,
        });
        // The embedded tokenizer reads 32 tokens, of which the last prompt has more.
        const { readsPrompt, promptTokens } = reward.info;
        assert.equal(promptTokens, readsPrompt ? 32 : undefined);
        assert.deepEqual(truncated, readsPrompt && i === 2 ? [0] : undefined);
        const score = await expected.readFloat32(`${config.kind}.${i}.score`);
        const { data } = await expected.readFloat32(`${config.kind}.${i}.grad`);
        close(scores, score.data, SCORE_TOLERANCE);
        close(gradient?.data ?? [], data, GRADIENT_TOLERANCE * largestOf(data));
      }
      await reward.dispose();
    });
  }
  await engine.close();
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("A batch scores as its images alone, each with its own prompt and gradient", async (t) => {
  for (const kind of ["clip", "owlvit"] as const) {
    await t.step(kind, () => checkBatch({ kind, weights: kind }));
  }
});

async function checkBatch(config: RewardConfigInput): Promise<void> {
  const reward = await loadReward(config, { baseDir: ZOO, maxBatch: 4, selfCheck: false });
  const { data, shape } = await loadImageTensor(`${PATH}#image.0`);
  // Seven images run as 4, 2 and 1.
  const batch = Array.from({ length: 7 }, (_, i) => data.map((v) => v * (1 - i / 20)));
  const prompts = batch.map((_, i) => PROMPTS[i % 2] ?? "");
  const all = await reward.score(
    float32(Float32Array.from(batch.flatMap((v) => [...v])), [7, ...shape.slice(1)]),
    prompts,
    { gradient: true },
  );
  for (const [i, one] of batch.entries()) {
    const alone = await reward.score(float32(one, shape), [prompts[i] ?? ""], { gradient: true });
    close(all.scores.subarray(i, i + 1), alone.scores, 1e-6);
    const gradient = alone.gradient?.data ?? new Float32Array();
    assert.ok(largestOf(gradient) > 0);
    close(
      all.gradient?.data.subarray(i * data.length, (i + 1) * data.length) ?? [],
      gradient,
      1e-5 * largestOf(gradient),
    );
  }
  await reward.dispose();
}
