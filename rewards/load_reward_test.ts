import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { float32, sizeOf } from "../autodiff/mod.ts";
import { decodeSafetensors, encodeSafetensors } from "../models/weights/mod.ts";
import { type Engine, openEngine } from "../runtime/mod.ts";
import { close } from "./_test_close.ts";
import { RewardInputError } from "./errors.ts";
import { loadReward } from "./load_reward.ts";
import type { RewardConfigInput } from "./registry.ts";
import type { Images, Reward } from "./reward.ts";
import { withFolder } from "../tests/support/mod.ts";

const GOLDEN = fileURLToPath(new URL("../tests/golden/rewards/", import.meta.url));

async function copyModel(name: string, folder: string): Promise<string> {
  const target = join(folder, name);
  await Deno.mkdir(target);
  for await (const { name: file } of Deno.readDir(join(GOLDEN, name))) {
    await Deno.copyFile(join(GOLDEN, name, file), join(target, file));
  }
  return target;
}

async function editConfig(folder: string, edit: (config: Record<string, unknown>) => unknown) {
  const path = join(folder, "config.json");
  const config = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify(edit(config)));
}

Deno.test("loadReward() tells facts and checks the gradient", async () => {
  const reward = await loadReward({ kind: "owlvit", weights: "owlvit", name: "no-books" }, {
    baseDir: GOLDEN,
    threads: 1,
  });
  const { digest, selfCheck, ...facts } = reward.info;
  assert.deepEqual(facts, {
    name: "no-books",
    kind: "owlvit",
    direction: "minimise",
    range: [0, 1],
    readsPrompt: false,
    preprocessing: "resize to 48x48 bicubic antialias, CLIP normalise",
    fileProcessing: "reference",
    provider: "cpu",
  });
  assert.match(digest, /^[0-9a-f]{64}$/);
  assert.ok((selfCheck?.gradientNorm ?? 0) > 0);
  assert.ok((selfCheck?.relativeError ?? 1) < 0.01);
  await reward.dispose();
  await reward.dispose();
});

Deno.test("The digest is of what changes the score, not of where it lies", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  await withFolder(async (folder) => {
    const moved = await copyModel("clip_gelu", folder);
    const digestOf = async (config: RewardConfigInput) => {
      const options = { engine, baseDir: GOLDEN, cacheDir: folder, selfCheck: false };
      const reward = await loadReward(config, options);
      await reward.dispose();
      return reward.info.digest;
    };
    const same = await Promise.all([
      digestOf({ kind: "pickscore", weights: "clip_gelu" }),
      digestOf({ kind: "pickscore", weights: moved, name: "other", scale: "logit" }),
    ]);
    assert.equal(same[0], same[1]);
    const all = await Promise.all([
      digestOf({ kind: "pickscore", weights: "clip_gelu", scale: "cosine" }),
      digestOf({ kind: "clip", weights: "clip_gelu" }),
      digestOf({ kind: "clip", weights: "clip_quick_gelu" }),
      digestOf({ kind: "symmetry" }),
      digestOf({ kind: "symmetry", std: "global" }),
      digestOf({ kind: "owlvit", weights: "owlvit" }),
      digestOf({ kind: "owlvit", weights: "owlvit", query: "cat" }),
    ]);
    assert.equal(new Set([...same, ...all]).size, all.length + 1);
  });
  await engine.close();
});

Deno.test("loadReward() names what is wrong with files and configurations", async () => {
  await withFolder(async (folder) => {
    const fails = async (config: RewardConfigInput, message: RegExp) => {
      const options = { baseDir: folder, cacheDir: join(folder, "cache") };
      await assert.rejects(loadReward(config, options), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, message);
        return true;
      });
    };
    const clip = await copyModel("clip_gelu", folder);
    const golden = (name: string) => join(GOLDEN, name);
    await fails({ kind: "clip", weights: "none" }, /none: does not exist/);
    await fails(
      { kind: "hpsv2", weights: golden("open_clip_tiny.pt") },
      /^Reward field "tokenizer" is missing, and the folder of the weights has none: /,
    );
    await fails(
      { kind: "clip", weights: golden("aesthetic_tiny.pth") },
      /holds neither vision_model.embeddings.class_embedding .* nor visual.conv1.weight/,
    );
    await fails(
      { kind: "aesthetic", weights: "clip_gelu", head: golden("open_clip_tiny.pt") },
      /has no linear layers in one order; two are named ".*weight" and ".*weight"/,
    );
    await fails(
      { kind: "owlvit", weights: "clip_gelu" },
      /"model_type" is "clip", expected "owlvit"/,
    );
    await fails(
      {
        kind: "clip",
        weights: "clip_gelu",
        tokenizer: fileURLToPath(new URL("../zoo/rewards/clip", import.meta.url)),
      },
      /Tokenizer .* has 1024 ids, the model embeds 545/,
    );

    await Deno.writeFile(
      join(folder, "head.safetensors"),
      encodeSafetensors({
        "layers.0.weight": float32(new Float32Array(8), [1, 8]),
        "layers.0.bias": float32(new Float32Array(1), [1]),
      }),
    );
    await fails(
      { kind: "aesthetic", weights: "clip_gelu", head: "head.safetensors" },
      /head\.safetensors takes embeddings of 8 numbers, the CLIP gives 24/,
    );

    await editConfig(clip, (c) => ({ ...c, projection_dim: 32 }));
    await fails(
      { kind: "clip", weights: "clip_gelu" },
      /weight "text_projection.weight" has shape \[24,32\], the configuration needs \[32,32\]/,
    );
    await editConfig(clip, (c) => ({ ...c, projection_dim: 24, vision_config: layers(c, 1) }));
    await fails({ kind: "clip", weights: "clip_gelu" }, /has more than the 1 vision layers/);
    await editConfig(clip, (c) => ({ ...c, vision_config: layers(c, 3) }));
    await fails(
      { kind: "clip", weights: "clip_gelu" },
      /has no weight "vision_model.encoder.layers.2./,
    );
    await editConfig(
      clip,
      (c) => ({ ...c, vision_config: layers(c, 2), text_config: { hidden_act: "relu" } }),
    );
    await fails(
      { kind: "clip", weights: "clip_gelu" },
      /config\.json: "(text|vision)_config\.hidden_act" is "relu", expected "quick_gelu" or "gelu"/,
    );

    const weights = await Deno.readFile(golden("owlvit/model.safetensors"));
    await copyModel("owlvit", folder);
    await Deno.writeFile(join(folder, "owlvit", "model.safetensors"), weights.subarray(0, 9000));
    await fails({ kind: "owlvit", weights: "owlvit" }, /owlvit.model\.safetensors: /);
  });
});

function layers({ vision_config }: Record<string, unknown>, num_hidden_layers: number): unknown {
  return { ...Object(vision_config), num_hidden_layers };
}

Deno.test("loadReward() refuses a reward whose gradient is zero", async () => {
  await withFolder(async (folder) => {
    const clip = await copyModel("clip_gelu", folder);
    const path = join(clip, "model.safetensors");
    const { tensors } = decodeSafetensors(await Deno.readFile(path));
    const name = "vision_model.embeddings.patch_embedding.weight";
    const shape = tensors[name]?.shape ?? [];
    const zero = float32(new Float32Array(sizeOf(shape)), shape);
    await Deno.writeFile(path, encodeSafetensors({ ...tensors, [name]: zero }));
    await assert.rejects(
      loadReward({ kind: "clip", weights: clip }),
      /^SelfCheckError: Reward clip failed its self-check: the gradient is zero$/,
    );
  });
});

Deno.test("A smooth maximum goes to the maximum as it gets colder, from above", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  const scoreOf = async (options: Partial<RewardConfigInput & { kind: "owlvit" }>) => {
    const config = { kind: "owlvit", weights: "owlvit", ...options } as const;
    const reward = await loadReward(config, { engine, baseDir: GOLDEN });
    const { scores } = await reward.score(picture({ height: 48, width: 48 }), [""]);
    await reward.dispose();
    return scores[0] ?? NaN;
  };
  const max = await scoreOf({});
  const warm = await scoreOf({ aggregation: "smoothmax", temperature: 1 });
  const cool = await scoreOf({ aggregation: "smoothmax", temperature: 0.1 });
  const cold = await scoreOf({ aggregation: "smoothmax", temperature: 1e-3 });
  assert.ok(warm > cool && cool > max, `${warm} > ${cool} > ${max}`);
  close([cold], [max], 1e-5);
  await engine.close();
});

Deno.test("A flat image is finitely symmetric, and a mirrored one exactly", async () => {
  for (const std of ["channel", "global"] as const) {
    const reward = await loadReward({ kind: "symmetry", std });
    const flat = float32(new Float32Array(3 * 5 * 7).fill(0.3), [1, 3, 5, 7]);
    const { scores, gradient } = await reward.score(flat, [], { gradient: true });
    assert.deepEqual([...scores], [0]);
    assert.ok(gradient?.data.every((g) => g === 0));
    const { data } = picture({ height: 5, width: 7 });
    const mirrored = data.map((v, i) => v + (data[i - i % 7 + 6 - i % 7] ?? 0));
    assert.deepEqual([...(await reward.score(float32(mirrored, [1, 3, 5, 7]), [])).scores], [0]);
    await reward.dispose();
  }
});

Deno.test("Symmetry by channel divides by the mean of the channels' deviations", async () => {
  const reward = await loadReward({ kind: "symmetry" });
  // One row of two pixels; deviations 0.1, 0.2, 0.3 and differences twice that.
  const pixels = [0.1, 0.3, 0.2, 0.6, 0.9, 0.3];
  const { scores } = await reward.score(float32(pixels, [1, 3, 1, 2]), []);
  close(scores, [0.4 / 0.2], 1e-6);
  await reward.dispose();
});

Deno.test("Bad input is refused with what is wrong with it", async () => {
  const reward = await loadReward({ kind: "clip", weights: "clip_gelu" }, { baseDir: GOLDEN });
  const fine = picture({ height: 8, width: 8 });
  const refuses = async (images: Images, prompts: string[], message: RegExp, options = {}) => {
    await assert.rejects(reward.score(images, prompts, options), (error) => {
      assert.ok(error instanceof RewardInputError);
      assert.match(error.message, message);
      return true;
    });
  };
  const shaped = (shape: number[], data = fine.data): Images => ({ dtype: "float32", shape, data });
  const withValue = (value: number) =>
    shaped(fine.shape.slice(), fine.data.with(64 + 8 + 2, value));
  await refuses(
    shaped([3, 8, 8]),
    ["a"],
    /^Images have shape \[3, 8, 8\], expected \[batch, 3, height, width\]$/,
  );
  await refuses(shaped([1, 4, 8, 6]), ["a"], /^Images have shape \[1, 4, 8, 6\]/);
  await refuses(shaped([1, 3, 0, 8]), ["a"], /^Images have shape \[1, 3, 0, 8\]/);
  await refuses(
    shaped([1, 3, 8, 9]),
    ["a"],
    /^Images have 192 values, their shape \[1, 3, 8, 9\] needs 216$/,
  );
  await refuses(
    shaped([1, 3, 20_000, 8]),
    ["a"],
    /^Images are 20000x8, expected sides of at most 16384/,
  );
  await refuses(
    withValue(NaN),
    ["a"],
    /^Images hold NaN at \[0, 1, 1, 2\], expected finite values$/,
  );
  await refuses(withValue(-Infinity), ["a"], /^Images hold -Infinity at \[0, 1, 1, 2\]/);
  await refuses(fine, [], /^Prompts are 0, expected one for each of 1 images$/);
  await refuses(fine, ["a", "b"], /^Prompts are 2, expected one for each of 1 images$/);
  await refuses(fine, [" \n"], /^Prompt 0 is empty$/);
  await refuses(
    fine,
    ["a".repeat(10_001)],
    /^Prompt 0 has 10001 characters, expected at most 10000$/,
  );
  const reference = { processing: "reference", gradient: true };
  await refuses(fine, ["a"], /^Gradient was asked for with processing reference/, reference);
  const thin = await loadReward(
    { kind: "hpsv2", weights: "clip_gelu" },
    { baseDir: GOLDEN, selfCheck: false },
  );
  await assert.rejects(
    thin.score(picture({ height: 1, width: 65 }), ["a"]),
    /Images are 1x65: nothing is left of the shorter side at 32x32 pixels/,
  );
  await thin.dispose();
  // What is refused leaves the reward as it was.
  assert.equal((await reward.score(fine, ["a"])).scores.length, 1);
  await reward.dispose();
});

Deno.test("A warmed bucket makes no session in its first request", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  const made: string[] = [];
  const counting: Engine = {
    pid: engine.pid,
    load: (model, options) => {
      made.push(model.name ?? "");
      return engine.load(model, options);
    },
    place: (name) => engine.place(name),
    keep: () => Promise.reject(new Error("Not used")),
    forget: () => Promise.reject(new Error("Not used")),
    cpuSeconds: () => engine.cpuSeconds(),
    close: () => engine.close(),
  };
  const reward = await loadReward({ kind: "clip", weights: "clip_gelu" }, {
    engine: counting,
    baseDir: GOLDEN,
    selfCheck: false,
    warmUp: [{ height: 40, width: 30, batch: 4 }],
  });
  const before = made.length;
  assert.ok(before > 0);
  const score = async (count: number, width: number) => {
    const { data } = picture({ height: 40 * count, width });
    const images = float32(data, [count, 3, 40, width]);
    await reward.score(images, Array<string>(count).fill("warm up"), { gradient: true });
  };
  for (const count of [1, 2, 3, 4, 7]) await score(count, 30);
  assert.equal(made.length, before);
  await score(1, 31);
  // The image is resized, and the gradient goes back: the model itself takes the same square.
  assert.equal(made.length, before + 2);
  await reward.dispose();
  await engine.close();
});

Deno.test("A run can be aborted, and a disposed reward says so", async () => {
  const reward: Reward = await loadReward({ kind: "symmetry" });
  const images = picture({ height: 8, width: 8 });
  const signal = AbortSignal.abort(new Error("Enough"));
  await assert.rejects(reward.score(images, [], { signal }), /Enough/);
  await reward.dispose();
  await assert.rejects(reward.score(images, []), /closed/);
});

function picture({ height, width }: { height: number; width: number }): Images {
  const data = Float32Array.from({ length: 3 * height * width }, (_, i) => (i * 37 % 101) / 101);
  return float32(data, [1, 3, height, width]);
}
