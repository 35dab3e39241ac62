import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeSafetensors, openSafetensors, readTorchFile } from "../models/weights/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { withFolder } from "../tests/support/mod.ts";
import { decodeImage } from "./images/decode_image.ts";
import { loadReward } from "./load_reward.ts";
import type { RewardConfigInput } from "./registry.ts";

// Files as people have them, rebuilt small; right values are of transformers 5 and open_clip 3.3 in float32, whose own
// resizing rounds to 8 bits, now and then otherwise than Pillow's; the tensor path does not round at all.
const TOLERANCE = { tensor: 2e-2, reference: 1e-3 } as const;

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const PUBLISHED = at("testdata/published/");
const GOLDEN = at("../tests/golden/rewards/");
const CLIP = `${GOLDEN}clip_quick_gelu`;
const PROMPT = "a fox, and books";

/** The score of the picture under both processings. */
async function scores(config: RewardConfigInput, cacheDir: string) {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const reward = await loadReward(config, { engine, cacheDir, selfCheck: false });
    const image = await decodeImage(await Deno.readFile(`${PUBLISHED}picture.png`));
    const score = async (processing: "tensor" | "reference") =>
      (await reward.score(image, [PROMPT], { processing })).scores[0] ?? NaN;
    return {
      reference: await score("reference"),
      tensor: await score("tensor"),
      info: reward.info,
    };
  } finally {
    await engine.close();
  }
}

/** A copy of a folder of the golden cases, some of its files replaced. */
async function withModel(
  files: Readonly<Record<string, string | Uint8Array>>,
  use: (folder: string) => Promise<void>,
  from = CLIP,
): Promise<void> {
  await withFolder(async (folder) => {
    for await (const { name } of Deno.readDir(from)) {
      if (!(name in files)) await Deno.copyFile(join(from, name), join(folder, name));
    }
    for (const [name, content] of Object.entries(files)) {
      if (typeof content === "string") await Deno.writeTextFile(join(folder, name), content);
      else await Deno.writeFile(join(folder, name), content);
    }
    await use(folder);
  });
}

async function check(
  config: RewardConfigInput,
  { expected, folder, tolerance = TOLERANCE }: {
    readonly expected: number;
    readonly folder: string;
    readonly tolerance?: Readonly<Record<keyof typeof TOLERANCE, number>>;
  },
): Promise<void> {
  const found = await scores(config, join(folder, "cache"));
  for (const processing of ["reference", "tensor"] as const) {
    const off = Math.abs(found[processing] - expected);
    const within = tolerance[processing];
    assert.ok(off <= within, `${processing}: ${found[processing]} for ${expected}, off by ${off}`);
  }
}

const text = (path: string) => Deno.readTextFile(`${PUBLISHED}${path}`);

Deno.test("A CLIP's preprocessor_config.json decides in both processings", async (t) => {
  const right: Record<string, number> = JSON.parse(await text("preprocessor/expected.json"));
  for (const name of ["pre_mean_half", "pre_imagenet", "pre_resize_larger", "pre_nonorm"]) {
    await t.step(
      name,
      () =>
        text(`preprocessor/${name}.json`).then((file) =>
          withModel(
            { "preprocessor_config.json": file },
            (folder) =>
              check({ kind: "clip", weights: folder }, { expected: right[name] ?? NaN, folder }),
          )
        ),
    );
  }
  const variants: Record<string, { file: object; score: number }> = JSON.parse(
    await text("preprocessor/variants.json"),
  );
  for (const [name, { file, score: expected }] of Object.entries(variants)) {
    await t.step(
      name,
      () =>
        withModel(
          { "preprocessor_config.json": JSON.stringify(file) },
          (folder) =>
            check({ kind: "clip", weights: folder }, {
              expected,
              folder,
              // Unscaled pixels saturate a tower that never saw such: what rounds to another integer counts 255 fold.
              ...(name === "norescale" && { tolerance: { tensor: 0.2, reference: 1e-3 } }),
            }),
        ),
    );
  }
  await t.step("an image_processor inside processor_config.json", async () => {
    const file = JSON.stringify({
      processor_class: "CLIPProcessor",
      image_processor: variants["vit"]?.file,
    });
    await withModel({ "processor_config.json": file }, async (folder) => {
      await Deno.remove(join(folder, "preprocessor_config.json"));
      const expected = variants["vit"]?.score ?? NaN;
      await check({ kind: "clip", weights: folder }, { expected, folder });
    });
  });
});

Deno.test("Preprocessing that is not honoured is refused by name", async (t) => {
  const base = JSON.parse(await text("preprocessor/pre_mean_half.json"));
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ crop_size: 24 }, /"crop_size" is 24, expected 32x32, which the vision tower reads/],
    [
      { do_center_crop: false },
      /"do_center_crop" is false, expected true where size is a shortest/,
    ],
    [{ size: 30, do_center_crop: false, default_to_square: true }, /"size" is 30, expected 32x32/],
    [{ do_resize: "false" }, /"do_resize" is "false", expected true or false/],
    [{ do_pad: true }, /"do_pad" is true, expected false or null/],
    [{ resample: 9 }, /"resample" is 9, expected 0 to 5/],
    [{ image_std: [0.5, 0, 0.5] }, /"image_std.1" is 0, expected three numbers above 0/],
    [{ size: { longest_edge: 32 } }, /"size" is {"longest_edge":32}, expected a number, two/],
    [{ image_processor_type: "ConvNextImageProcessor" }, /is "ConvNextImageProcessor", expected/],
    [{ crop_pct: 0.875 }, /"crop_pct" is not known here/],
  ];
  for (const [fields, message] of cases) {
    await t.step(
      Object.keys(fields).join(),
      () =>
        withModel(
          { "preprocessor_config.json": JSON.stringify({ ...base, ...fields }) },
          (folder) => assert.rejects(scores({ kind: "clip", weights: folder }, folder), message),
        ),
    );
  }
});

Deno.test("Old and exported configurations of a CLIP mean what transformers reads", async (t) => {
  const whole = JSON.parse(await text("config/dict_overrides.json"));
  const { text_config_dict, vision_config_dict } = whole;
  const { text_config: _t, vision_config: _v, ...rest } = whole;
  const plain = -0.1650856;
  const cases: Record<string, readonly [object, number]> = {
    dict_overrides: [whole, -0.1658164],
    only_dicts: [{ ...rest, text_config_dict, vision_config_dict }, -0.1658164],
    training_fields: [JSON.parse(await text("config/training_fields.json")), plain],
    export_fields: [JSON.parse(await text("config/export_fields.json")), plain],
  };
  for (const [name, [config, expected]] of Object.entries(cases)) {
    await t.step(
      name,
      () =>
        withModel(
          { "config.json": JSON.stringify(config) },
          (folder) => check({ kind: "clip", weights: folder }, { expected, folder }),
        ),
    );
  }
  await t.step("a nested field is named with what was found", async () => {
    const config = JSON.parse(await text("config/export_fields.json"));
    config.text_config.rope_theta = 7;
    await withModel({ "config.json": JSON.stringify(config) }, (folder) =>
      assert.rejects(
        scores({ kind: "clip", weights: folder }, folder),
        /"text_config.rope_theta" is not known here/,
      ));
  });
});

Deno.test("An open_clip_config.json's preprocess_cfg decides", async () => {
  await withFolder(async (folder) => {
    await Deno.copyFile(`${GOLDEN}open_clip_tiny.pt`, join(folder, "open_clip_pytorch_model.pt"));
    const config = await text("open_clip/open_clip_config.json");
    await Deno.writeTextFile(join(folder, "open_clip_config.json"), config);
    const reward = { kind: "clip", weights: folder, tokenizer: `${GOLDEN}clip_gelu` } as const;
    await check(reward, { expected: -0.0039697, folder });
    const longest = config.replace('"squash"', '"crop-ish"');
    await Deno.writeTextFile(join(folder, "open_clip_config.json"), longest);
    await assert.rejects(
      scores(reward, folder),
      /"preprocess_cfg.resize_mode" is "crop-ish", expected "shortest" or "longest" or "squash"/,
    );
  });
});

Deno.test("OpenAI's TorchScript archives are read without being run", async () => {
  await withFolder(async (folder) => {
    const weights = `${PUBLISHED}torchscript`;
    await check({ kind: "clip", weights }, { expected: 0.1250999, folder });
  });
});

Deno.test("Names under a prefix are the names below it", async (t) => {
  const source = openSafetensors(`${CLIP}/model.safetensors`);
  const tensors = await Promise.all(
    [...source.tensors.keys()].map(async (name) => [name, await source.read(name)] as const),
  );
  for (const prefix of ["module.", "model.", "clip.", "_orig_mod.", "module._orig_mod."]) {
    const named = Object.fromEntries(tensors.map(([name, tensor]) => [prefix + name, tensor]));
    await t.step(
      prefix,
      () =>
        withModel(
          { "model.safetensors": encodeSafetensors(named) },
          (folder) => check({ kind: "clip", weights: folder }, { expected: -0.1650856, folder }),
        ),
    );
  }
  await t.step("open_clip's, beside an optimizer's state", async () => {
    const { tensors } = await readTorchFile(`${GOLDEN}open_clip_tiny.pt`);
    const named = Object.fromEntries([...tensors].map(([name, t]) => [`model.${name}`, t]));
    const [some] = tensors.values();
    assert.ok(some);
    await withFolder(async (folder) => {
      const weights = join(folder, "checkpoint.safetensors");
      await Deno.writeFile(
        weights,
        encodeSafetensors({ ...named, "optimizer.exp_avg.0": some }),
      );
      const config = `${PUBLISHED}torchscript/open_clip_config.json`;
      const tokenizer = `${GOLDEN}clip_gelu`;
      await check({ kind: "clip", weights, config, tokenizer }, { expected: 0.1250999, folder });
    });
  });
  await t.step("two copies are refused", async () => {
    const named = Object.fromEntries(
      ["student.", "teacher."].flatMap((p) => tensors.map(([name, t]) => [p + name, t])),
    );
    await withModel({ "model.safetensors": encodeSafetensors(named) }, (folder) =>
      assert.rejects(
        scores({ kind: "clip", weights: folder }, folder),
        /holds several CLIPs, under "student.", "teacher."; expected one/,
      ));
  });
});

Deno.test("LAION's other heads, with a vision tower alone", async (t) => {
  const head = (name: string) => `${PUBLISHED}heads/${name}.pth`;
  const aesthetic = { kind: "aesthetic", weights: CLIP } as const;
  await t.step(
    "linear",
    () =>
      withFolder((folder) =>
        check({ ...aesthetic, head: head("head_lin") }, { expected: 0.1604634, folder })
      ),
  );
  await t.step(
    "ReLU in the places of LAION's",
    () =>
      withFolder((folder) =>
        check({ ...aesthetic, head: head("head_relu") }, { expected: -0.4081997, folder })
      ),
  );
  await t.step(
    "an activation that is given",
    () =>
      withFolder((folder) =>
        check({ ...aesthetic, head: head("head_gelu2"), headActivation: "gelu" }, {
          expected: 0.0665184,
          folder,
        })
      ),
  );
  await t.step("an activation that is asked for", () =>
    withFolder((folder) =>
      assert.rejects(
        scores({ ...aesthetic, head: head("head_gelu2") }, folder),
        /has layers 0, 2: an activation may stand between them; give the head's activation/,
      )
    ));
  await t.step("a tower alone", async () => {
    const config = JSON.parse(await Deno.readTextFile(`${CLIP}/config.json`));
    const source = openSafetensors(`${CLIP}/model.safetensors`);
    const names = [...source.tensors.keys()].filter((n) =>
      n.startsWith("vision_model.") || n === "visual_projection.weight"
    );
    const tower = Object.fromEntries(
      await Promise.all(names.map(async (name) => [name, await source.read(name)] as const)),
    );
    const files = {
      "config.json": JSON.stringify({
        ...config.vision_config,
        model_type: "clip_vision_model",
        projection_dim: config.projection_dim,
        architectures: ["CLIPVisionModelWithProjection"],
      }),
      "model.safetensors": encodeSafetensors(tower),
    };
    await withModel(files, async (folder) => {
      const reward = { kind: "aesthetic", weights: folder, head: head("head_lin") } as const;
      await check(reward, { expected: 0.1604634, folder });
      await assert.rejects(
        scores({ kind: "clip", weights: folder }, folder),
        /holds a vision tower and no text tower, expected a whole CLIP/,
      );
    });
  });
});
