import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { float32 } from "../../../autodiff/mod.ts";
import { writeSafetensors } from "../../../models/weights/mod.ts";
import { seededNoise } from "../../../trainer/mod.ts";
import { parseCommand } from "../command.ts";
import { sample } from "./sample.ts";
import { withFolder } from "../../../tests/support/mod.ts";

const MODEL = new URL("../../../tests/golden/tiny-sd", import.meta.url).pathname;
const run = (...words: string[]) =>
  sample.run(parseCommand(sample, words), new AbortController().signal);

Deno.test("sample draws every prompt at its seeds, with a sheet of all", () =>
  withFolder(async (folder) => {
    const common = ["--model", MODEL, "--steps", "2", "--height", "16", "--json", "--threads", "1"];
    const out = join(folder, "out");
    const size = ["--width", "24", "--prompt", "a fox", "--prompt", "an owl"];
    assert.equal(await run(...common, ...size, "--seed", "7", "--images", "2", "--out", out), 0);
    const names = (await readdir(out)).sort();
    const files = [0, 1, 2, 3].map((i) => `000${i}_seed${7 + i % 2}.png`);
    assert.deepEqual(names, [...files, "sheet.png"]);
    const { width, height } = await sharp(join(out, files[1] ?? "")).metadata();
    assert.deepEqual([width, height], [24, 16]);

    // The seed's own noise, given as a tensor, is the same picture; other noise is another.
    const shape = { channels: 4, height: 8, width: 12 };
    const noise = seededNoise([{ seed: 8, iteration: 0, image: 0 }], shape).initial();
    const file = join(folder, "noise.safetensors");
    await writeSafetensors(file, {
      same: noise,
      other: float32(noise.data.map((v) => -v), [1, 4, 8, 12]),
    });
    const drawn = async (name: string) => {
      const out = join(folder, name);
      const given = ["--latents", `${file}#${name}`, "--prompt", "a fox", "--sampler", "ddim"];
      assert.equal(await run(...common, ...given, "--seed", "8", "--out", out), 0);
      return await readFile(join(out, "0000_seed8.png"));
    };
    const seeded = join(folder, "seeded");
    const fox = ["--width", "24", "--prompt", "a fox", "--sampler", "ddim", "--seed", "8"];
    assert.equal(await run(...common, ...fox, "--out", seeded), 0);
    const expected = await readFile(join(seeded, "0000_seed8.png"));
    assert.ok(expected.equals(await drawn("same")));
    assert.ok(!expected.equals(await drawn("other")));
  }));

Deno.test("sample names the option at fault, what was found and what was expected", () =>
  withFolder(async (folder) => {
    const local = ["--model", MODEL, "--prompt", "a fox", "--out", folder];
    const file = join(folder, "noise.safetensors");
    await writeSafetensors(file, { x_T: float32(new Float32Array(256), [1, 4, 8, 8]) });
    const refused = async (words: readonly string[], message: RegExp) =>
      await assert.rejects(run(...words), message);
    await refused(["--model", MODEL, "--out", folder], /Give --prompt or --prompts/);
    await refused([...local, "some-run"], /Option --model and run "some-run" exclude each other/);
    await refused([...local, "--step", "3"], /Option --step goes with a run only/);
    await refused(
      [...local, "--endpoint", "127.0.0.1:1"],
      /Option --endpoint goes with a run only/,
    );
    await refused(
      ["a-run", "--lora", "x", "--out", folder],
      /Option --lora goes with --model only/,
    );
    await refused(
      ["a-run", "--memory-limit", "4", "--out", folder],
      /Option --memory-limit goes with --model only/,
    );
    await refused([...local, "--height", "17"], /Option --height is 17, expected a multiple of 2/);
    await refused(
      [...local, "--sampler", "euler"],
      /is "euler", expected ddpm, ddim, dpmsolver\+\+/,
    );
    await refused(
      [...local, "--images", "5000"],
      /Option --images is "5000", expected a whole number/,
    );
    await refused([...local, "--latents", file], /expected FILE\.safetensors#TENSOR/);
    await refused([...local, "--latents", `${file}#x`], /names tensor "x", expected one of x_T/);
    await refused(
      [...local, "--images", "2", "--latents", `${file}#x_T`],
      /Option --latents has shape \[1,4,8,8\], expected \[2, 4, height, width\]/,
    );
    await refused(
      [...local, "--width", "24", "--latents", `${file}#x_T`],
      /Option --latents has width 8, expected 12 as --width says/,
    );
    await refused([...local, "--lora", join(folder, "none")], /LoRA file .*none: is not there/);
    await refused(
      [...local, "--lora", folder],
      /is a folder, expected one of pytorch_lora_weights/,
    );
    await refused([...local, "--lora", file], /"x_T" ends as nothing that LoRA files hold/);
  }));
