import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Builder, float32 } from "../autodiff/mod.ts";
import { serialize } from "../compile/mod.ts";
import { clipPreprocessing } from "../models/clip/mod.ts";
import { openSafetensors } from "../models/weights/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { TEST_PROVIDER } from "../runtime/testing/mod.ts";
import { close, largestOf } from "./_test_close.ts";
import { loadImageTensor } from "./images/load_image_tensor.ts";
import { loadReward } from "./load_reward.ts";
import { fitImages, fitRecipe, normalise, type PixelRecipe } from "./preprocess/mod.ts";
import type { RewardConfigInput } from "./registry.ts";

// Scores, pixels and gradients of PyTorch in float64 on tiny models (tests/golden/reference/reward_fixtures.py).
// PyTorch in float32 is within 6e-7 of these scores, and within 8e-6 of these gradients' largest values.
const SCORE_TOLERANCE = 5e-6;
const GRADIENT_TOLERANCE = 2e-5;
const PIXEL_TOLERANCE = 2e-6;

const GOLDEN = fileURLToPath(new URL("../tests/golden/rewards/", import.meta.url));
const IMAGES = ["img0", "img1", "img2"];

const CROP: PixelRecipe = { fit: "crop", size: 32 };

interface Case {
  readonly config: RewardConfigInput;
  readonly recipe?: PixelRecipe;
}

const CASES: Readonly<Record<string, Case>> = {
  pickscore: {
    config: { kind: "pickscore", weights: "clip_gelu", scale: "cosine" },
    recipe: CROP,
  },
  clipscore: { config: { kind: "clip", weights: "clip_quick_gelu" }, recipe: CROP },
  hps: {
    config: { kind: "hpsv2", weights: "open_clip_tiny.pt", tokenizer: "clip_gelu" },
    recipe: { fit: "pad", size: 32 },
  },
  aesthetic: {
    config: { kind: "aesthetic", weights: "clip_quick_gelu", head: "aesthetic_tiny.pth" },
    recipe: CROP,
  },
  objectness: {
    config: { kind: "owlvit", weights: "owlvit" },
    recipe: { fit: "stretch", size: 48 },
  },
  symmetry: { config: { kind: "symmetry", std: "global" } },
  jpeg_cubic_420: { config: { kind: "jpeg" } },
  jpeg_cubic_444: { config: { kind: "jpeg", subsampling: "4:4:4" } },
  jpeg_ste_420: { config: { kind: "jpeg", mode: "ste" } },
  jpeg_ste_444: { config: { kind: "jpeg", mode: "ste", subsampling: "4:4:4" } },
  jpeg_sgtarget_420: { config: { kind: "jpeg", mode: "constant-target" } },
};

interface Golden {
  readonly prompt: string;
  /** How far a reference processor's score of the 8-bit image is from the exact one. */
  readonly forward: Record<string, Record<string, Record<string, number>>>;
}

async function setUp() {
  const text = await Deno.readTextFile(`${GOLDEN}rewards.json`);
  const golden: Golden = JSON.parse(text);
  return {
    golden,
    expected: openSafetensors(`${GOLDEN}expected.safetensors`),
    engine: await openEngine({ isolation: "in-process" }),
    cacheDir: await Deno.makeTempDir(),
    image: (name: string) => loadImageTensor(`${GOLDEN}images.safetensors#${name}`),
  };
}

Deno.test("Scores and gradients agree with PyTorch", async (t) => {
  const { golden, expected, engine, cacheDir, image } = await setUp();
  for (const [name, { config }] of Object.entries(CASES)) {
    await t.step(name, async () => {
      const reward = await loadReward(config, {
        provider: TEST_PROVIDER,
        engine,
        cacheDir,
        baseDir: GOLDEN,
      });
      for (const key of IMAGES) {
        const images = await image(key);
        const prompts = [golden.prompt];
        const score = await expected.readFloat32(`${name}.${key}.score`);
        const alone = await reward.score(images, prompts);
        assert.equal(alone.gradient, undefined);
        close(alone.scores, score.data, SCORE_TOLERANCE);
        const { scores, gradient } = await reward.score(images, prompts, { gradient: true });
        close(scores, score.data, SCORE_TOLERANCE);
        assert.deepEqual(gradient?.shape, images.shape);
        const { data } = await expected.readFloat32(`${name}.${key}.grad`);
        // Straight-through rounding without subsampling has no gradient: PyTorch's is its rounding, 1e-19.
        const isZero = name === "jpeg_ste_444";
        const truth = isZero ? data.map(() => 0) : data;
        close(gradient?.data ?? [], truth, GRADIENT_TOLERANCE * largestOf(truth));
      }
      await reward.dispose();
    });
  }
  await engine.close();
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("Preprocessed pixels agree with torchvision", async () => {
  const { expected, engine, cacheDir, image } = await setUp();
  for (const [name, { recipe }] of Object.entries(CASES)) {
    if (recipe === undefined) continue;
    for (const key of IMAGES) {
      const images = await image(key);
      const [, , height = 0, width = 0] = images.shape;
      const b = new Builder();
      const x = b.input("x", images);
      const pixels = normalise(
        b,
        fitImages(b, x, fitRecipe(recipe, { height, width })),
        clipPreprocessing(32),
      );
      const session = await engine.load({ bytes: serialize(b, { pixels }) });
      const result = await session.run({ x: float32(images.data, images.shape) });
      assert.equal(result["pixels"]?.dtype, "float32");
      const { data } = await expected.readFloat32(`${name}.${key}.pixel_values`);
      close(result["pixels"].data, data, PIXEL_TOLERANCE);
    }
  }
  await engine.close();
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("Reference processing agrees with Pillow's", async () => {
  const { golden, engine, cacheDir, image } = await setUp();
  for (const [name, { config, recipe }] of Object.entries(CASES)) {
    if (recipe === undefined) continue;
    const reward = await loadReward(config, {
      provider: TEST_PROVIDER,
      engine,
      cacheDir,
      baseDir: GOLDEN,
      selfCheck: false,
    });
    for (const key of IMAGES) {
      const facts = golden.forward[name]?.[key];
      const { scores } = await reward.score(await image(key), [golden.prompt], {
        processing: "reference",
      });
      close(scores, [(facts?.["tensor"] ?? NaN) + (facts?.["pil_uint8"] ?? NaN)], SCORE_TOLERANCE);
    }
    await reward.dispose();
  }
  await engine.close();
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("The JPEG reward's libjpeg error agrees with Pillow's", async () => {
  const { golden, engine, cacheDir, image } = await setUp();
  for (const subsampling of ["4:2:0", "4:4:4"] as const) {
    const reward = await loadReward({ kind: "jpeg", subsampling }, { engine, selfCheck: false });
    for (const key of IMAGES) {
      const extras = await reward.extras?.(await image(key));
      const facts = golden.forward[`jpeg_${subsampling.replaceAll(":", "")}`]?.[key];
      close(extras?.["libjpegError"] ?? [], [facts?.["real_pil"] ?? NaN], 1e-7);
    }
    await reward.dispose();
  }
  await engine.close();
  await Deno.remove(cacheDir, { recursive: true });
});
