import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { main } from "../main.ts";
import { withFolder } from "../../../tests/support/mod.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const PICTURES = path("../../../rewards/testdata/pictures");
const GOLDEN = path("../../../tests/golden/rewards");

/** The exit code, and what was printed on stdout and stderr. */
async function score(...words: readonly string[]) {
  const [out, err]: [string[], string[]] = [[], []];
  const { error, log } = console;
  console.log = (text) => out.push(text);
  console.error = (text) => err.push(text);
  try {
    const code = await main(["score", ...words], new AbortController().signal);
    return { code, out, err: err.join("\n") };
  } finally {
    Object.assign(console, { error, log });
  }
}

Deno.test("drtune score: tensors, their gradients and one JSON object a line", async () => {
  await withFolder(async (folder) => {
    const file = join(folder, "g.safetensors");
    const image = (name: string) => ["--image", `${GOLDEN}/images.safetensors#${name}`];
    const record =
      `{"kind":"aesthetic","weights":"${GOLDEN}/clip_quick_gelu","head":"${GOLDEN}/aesthetic_tiny.pth"}`;
    const { code, out } = await score(
      ...["--reward", record, "--reward", '{"kind":"jpeg","subsampling":"4:4:4"}'],
      ...[...image("img0"), ...image("img1"), "--json", "--gradient", file],
    );
    assert.equal(code, 0);
    const rows = out.map((line) => JSON.parse(line));
    const expected = openSafetensors(`${GOLDEN}/expected.safetensors`);
    const gradients = openSafetensors(file);
    for (const [i, name] of ["img0", "img1"].entries()) {
      for (const [kind, golden] of [["aesthetic", "aesthetic"], ["jpeg", "jpeg_cubic_444"]]) {
        const truth = await expected.readFloat32(`${golden}.${name}.score`);
        assert.ok(Math.abs(rows[i].scores[kind ?? ""] - (truth.data[0] ?? NaN)) < 2e-5);
        const slope = await expected.readFloat32(`${golden}.${name}.grad`);
        const found = await gradients.readFloat32(
          `${kind}/${GOLDEN}/images.safetensors#${name}`,
        );
        const largest = slope.data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        assert.ok(found.data.every((v, j) => Math.abs(v - (slope.data[j] ?? 0)) < 2e-4 * largest));
      }
    }
  });
});

Deno.test("drtune score: a folder with a broken picture is scored, resumed and shown", async () => {
  await withFolder(async (folder) => {
    for (const name of ["rgb.png", "colour_420.jpg", "lossless.webp"]) {
      await Deno.copyFile(join(PICTURES, name), join(folder, name));
    }
    await Deno.writeTextFile(join(folder, "broken.png"), "no picture");
    const rewards = join(folder, "rewards.yaml");
    await Deno.writeTextFile(
      rewards,
      "rewards:\n  - {kind: symmetry}\n  - {kind: jpeg, name: small, quality: 20}\n",
    );
    for (const kind of ["jsonl", "csv"]) {
      const table = join(folder, `out.${kind}`);
      const sheet = join(folder, `sheet-${kind}.png`);
      const run = () =>
        score(
          "--rewards",
          rewards,
          "--image",
          `${folder}/{b,r,c,l}*.{png,jpg,webp}`,
          "--out",
          table,
          "--sheet",
          sheet,
        );
      const first = await run();
      assert.equal(first.code, 1);
      assert.match(first.err, /broken\.png is not a PNG, JPEG or WebP file/);
      assert.match(first.err, /1 of 4 images could not be scored$/);
      assert.match(
        first.out.join("\n"),
        /^symmetry: mean 1\.\d+, 95 % confidence interval .*n = 3/,
      );
      const whole = await Deno.readTextFile(table);
      // The end of a run that was interrupted: two rows and part of a third.
      const lines = whole.trimEnd().split("\n");
      const last = lines.at(-1) ?? "";
      await Deno.writeTextFile(table, whole.slice(0, -last.length + 3));
      await run();
      assert.equal(await Deno.readTextFile(table), whole);
      const { width, height } = await sharp(sheet).metadata();
      assert.ok(width > 600 && height > 200);
      await Deno.remove(sheet);
    }
  });
});

Deno.test("drtune score: a batch of a tensor is resumed image by image, lists have prompts", async () => {
  await withFolder(async (folder) => {
    const table = join(folder, "t.csv");
    const image = `${path("../../../rewards/testdata/scorers")}/expected.safetensors#image`;
    const args = ["--reward", "symmetry", "--image", image, "--out", table];
    await score(...args);
    const rows = await Deno.readTextFile(table);
    assert.equal(rows.trimEnd().split("\n").length, 3);
    await score(...args);
    assert.equal(await Deno.readTextFile(table), rows);
    const list = join(folder, "list.csv");
    await Deno.writeTextFile(list, `image,prompt\n${PICTURES}/rgb.png,"a ""red"" fox, sitting"\n`);
    const { out } = await score("--reward", "clip", "--image", list, "--json");
    assert.equal(JSON.parse(out[0] ?? "").prompt, 'a "red" fox, sitting');
  });
});

Deno.test("drtune score: wrong words are answered by what is wrong", async () => {
  const picture = ["--image", `${PICTURES}/rgb.png`];
  const cases: [string[], RegExp, number][] = [
    [["--reward", "jpeg"], /Name images: --image PATH/, 2],
    [picture, /Name a reward/, 2],
    [["--reward", "jpeg", "--image", "none.png"], /No such file or folder: none\.png/, 2],
    [["--reward", "jpeg", "--image", "none*.png"], /No images: none\*\.png holds no PNG/, 2],
    [
      ["--reward", "jpeg", "--set", "quality=800", ...picture],
      /"quality" is 800, expected 100 or less/,
      2,
    ],
    [["--reward", "jpeg", "--set", "quality", ...picture], /--set is "quality", expected FIELD/, 2],
    [["--reward", "jpeg", "--reward", "jpeg", ...picture], /Two rewards are called jpeg/, 2],
    [
      ["--reward", "jpeg", "--reward", "symmetry", "--set", "quality=2", ...picture],
      /Field quality is given as an option, and 2 rewards are named/,
      2,
    ],
    [["--reward", "clip", ...picture], /Reward clip reads the prompt, and .*rgb\.png has none/, 2],
    [["--reward", "jpeg", "--out", "a.txt", ...picture], /expected a \.csv or \.jsonl file/, 2],
    [
      ["--reward", "jpeg", "--image", `${GOLDEN}/images.safetensors`],
      /has 3 tensors, expected #name of one of img0, img1, img2/,
      2,
    ],
    [
      [
        "--reward",
        "onnx",
        ...picture,
        "--weights",
        path("../../../tests/autodiff/models/vit_opset18.onnx"),
      ],
      /Reward field "fit" is missing: the model reads 16x16 pixels/,
      2,
    ],
  ];
  for (const [words, message, expected] of cases) {
    const { code, err } = await score(...words);
    assert.match(err, message);
    assert.equal(code, expected, err);
  }
});
