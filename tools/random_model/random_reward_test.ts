import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Shape, sizeOf } from "../../autodiff/mod.ts";
import { openSafetensors, openTorchFile } from "../../models/weights/mod.ts";
import { loadReward, parseRewardConfig } from "../../rewards/mod.ts";
import { findPython } from "../python_env.ts";
import { type RewardFile, REWARDS } from "./reward_kinds.ts";
import {
  aestheticHeadShapes,
  clipShapes,
  type ClipSizes,
  openClipShapes,
  owlVitShapes,
} from "./reward_shapes.ts";
import { writeRandomReward } from "./write_reward.ts";

const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));
const GOLDEN = path("../../tests/golden/rewards");

const TINY: ClipSizes = {
  vision: { width: 48, layers: 2, inner: 96, image: 32, patch: 8 },
  text: { width: 32, layers: 2, inner: 64, context: 77, vocabulary: 545 },
  joint: 24,
};

const told = (shapes: Iterable<readonly [string, Shape]>) =>
  [...shapes].map(([name, shape]) => `${name} [${shape}]`).sort();

Deno.test("Names and shapes of tiny rewards are those that transformers and open_clip wrote", () => {
  const stored = (tensors: ReadonlyMap<string, { readonly shape: Shape }>) =>
    told([...tensors].map(([name, { shape }]) => [name, shape]));
  const clip = openSafetensors(`${GOLDEN}/clip_gelu/model.safetensors`);
  assert.deepEqual(told(clipShapes(TINY)), stored(clip.tensors));
  const owl = openSafetensors(`${GOLDEN}/owlvit/model.safetensors`);
  const seen = { ...TINY.vision, image: 48 };
  const sizes = { vision: seen, text: { ...TINY.text, context: 16 }, joint: 32 };
  assert.deepEqual(told(owlVitShapes(sizes)), stored(owl.tensors));
  const open = openTorchFile(`${GOLDEN}/open_clip_tiny.pt`, { key: "state_dict" });
  const inner = (tower: ClipSizes["text"]) => ({ ...tower, inner: 4 * tower.width });
  assert.deepEqual(
    told(openClipShapes({
      ...TINY,
      vision: { ...TINY.vision, inner: 192 },
      text: inner(TINY.text),
    })),
    stored(open.tensors),
  );
});

Deno.test("True-size rewards have as many parameters as the published ones", () => {
  const count = ({ shapes }: RewardFile) =>
    [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  const counts = Object.entries(REWARDS).map(([kind, { weights }]) => [kind, weights.map(count)]);
  // As open_clip and transformers count ViT-H-14, ViT-L-14, LAION's head and owlvit-base-patch32.
  assert.deepEqual(Object.fromEntries(counts), {
    hpsv2: [986_109_441],
    pickscore: [986_109_441],
    aesthetic: [427_616_513, 927_969],
    owlvit: [153_231_879],
  });
});

Deno.test("A random reward is written in its format, read back and loaded", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const text = { ...TINY.text, width: 64, vocabulary: 1024 };
    const weights: RewardFile[] = [
      {
        path: "hps.pt",
        dtype: "float16",
        shapes: new Map(
          openClipShapes({ ...TINY, text, vision: { ...TINY.vision, width: 64, inner: 256 } }),
        ),
        key: "state_dict",
      },
      { path: "head.pth", dtype: "float32", shapes: new Map(aestheticHeadShapes(24)) },
    ];
    const record = { kind: "hpsv2", weights: "hps.pt" };
    const tokenizer = path("../../zoo/rewards/clip");
    await writeRandomReward(folder, { reward: { weights, json: {}, record }, tokenizer });
    const config = parseRewardConfig(
      JSON.parse(await Deno.readTextFile(join(folder, "reward.json"))),
    );
    const reward = await loadReward(config, { baseDir: folder, cacheDir: join(folder, "cache") });
    assert.ok((reward.info.selfCheck?.gradientNorm ?? 0) > 0);
    await reward.dispose();
    const python = findPython();
    if (python === undefined) return;
    const program = `import sys, torch
hps, head = (torch.load(p, weights_only=True) for p in sys.argv[1:])
d = hps["state_dict"]
print(len(d), d["visual.proj"].dtype, tuple(d["visual.proj"].shape), len(head), head["layers.7.bias"].item())`;
    const { stdout } = await new Deno.Command(python, {
      args: ["-c", program, join(folder, "hps.pt"), join(folder, "head.pth")],
    }).output();
    const bias = openTorchFile(join(folder, "head.pth"));
    const [value] = (await bias.read("layers.7.bias")).data;
    assert.equal(
      new TextDecoder().decode(stdout).trim(),
      `${weights[0]?.shapes.size} torch.float16 (64, 24) 10 ${value}`,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
