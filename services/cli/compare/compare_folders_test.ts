import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { main } from "../main.ts";
import { parseCsv } from "../score/csv.ts";

/** A PNG of 16x16 grey pixels, some columns on the left lighter: the more, the less like its mirror image. */
async function picture(path: string, light: number): Promise<void> {
  const pixels = Buffer.alloc(3 * 256, 90);
  for (let i = 0; i < 256; i++) if (i % 16 < light) pixels.fill(i + 10, 3 * i, 3 * i + 3);
  await mkdir(join(path, ".."), { recursive: true });
  await sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } }).png().toFile(path);
}

async function drtune(...words: readonly string[]): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const { log, error } = console;
  const keep = (...texts: readonly unknown[]) => void lines.push(texts.map(String).join(" "));
  [console.log, console.error] = [keep, keep];
  try {
    return { code: await main(words, new AbortController().signal), said: lines.join("\n") };
  } finally {
    [console.log, console.error] = [log, error];
  }
}

Deno.test("drtune eval A B compares two folders of pictures, by category of a benchmark too", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-compare-"));
  const [before, after, out] = ["before", "after", "out"].map((name) => join(folder, name));
  assert.ok(before && after && out);
  try {
    for (const [name, light] of [["cat", 4], ["dog", 6], ["owl", 2]] as const) {
      await picture(join(before, `${name}.png`), light);
      // A picture that is its own mirror image is as symmetric as can be.
      await picture(join(after, `${name}.png`), name === "owl" ? light : 0);
    }
    await t.step("picture for picture of the same name", async () => {
      const { code, said } = await drtune(
        "eval",
        before,
        after,
        "--reward",
        "symmetry",
        "--out",
        out,
      );
      assert.equal(code, 0, said);
      assert.match(said, /symmetry \(down\) +all +3 .* 0 \/ 1 \/ 2 +100\.0 %/);
      const [head = [], row = []] = parseCsv(await readFile(join(out, "categories.csv"), "utf8"));
      assert.deepEqual([row[head.indexOf("prompts")], row[head.indexOf("B wins")]], ["3", "2"]);
      const page = await readFile(join(out, "index.html"), "utf8");
      assert.doesNotMatch(page, /<script|(?:src|href)="(?!data:)/);
    });
    await t.step(
      "by category, as HPS v2 names pictures; what one side lacks is left out",
      async () => {
        const list = join(folder, "benchmark");
        for (
          const [category, prompts] of [["anime", ["a <girl>", "a boy"]], ["photo", [
            "a cat",
          ]]] as const
        ) {
          await mkdir(list, { recursive: true });
          await writeFile(join(list, `${category}.json`), JSON.stringify(prompts));
          for (const i of prompts.keys()) {
            await picture(join(folder, "one", category, `0000${i}.png`), 4 + i);
            if (i === 0) await picture(join(folder, "two", category, "00000.jpg"), 8);
          }
        }
        const words = ["eval", join(folder, "one"), join(folder, "two"), "--benchmark", list];
        const { code, said } = await drtune(...words, "--reward", "symmetry", "--out", out);
        assert.equal(code, 0, said);
        assert.match(said, /2 of 3 prompts have pictures on both sides/);
        const [, ...rows] = parseCsv(await readFile(join(out, "categories.csv"), "utf8"));
        assert.deepEqual(rows.map(([, category, pairs]) => [category, pairs]), [["anime", "1"], [
          "photo",
          "1",
        ], ["all", "2"]]);
        assert.ok((await readFile(join(out, "index.html"), "utf8")).includes("a &lt;girl&gt;"));
        assert.equal(
          await readFile(join(out, "vote_prompts.txt"), "utf8"),
          "# anime\na <girl>\n# photo\na cat\n",
        );
      },
    );
    await t.step("a detector looks for the objects of GenEval's prompts", async () => {
      const list = join(folder, "geneval.jsonl");
      await writeFile(
        list,
        '{"tag":"single_object","include":[{"class":"book","count":1}],"prompt":"a photo of a book"}\n',
      );
      for (const side of ["three", "four"]) {
        await picture(join(folder, side, "single_object", "00000.png"), 3);
      }
      const words = ["eval", join(folder, "three"), join(folder, "four"), "--benchmark", list];
      const { code, said } = await drtune(...words, "--reward", "symmetry", "--out", out);
      assert.equal(code, 0, said);
      assert.match(said, /objects \(up\) +single_object +1 +0\.000 +0\.000/);
      assert.match(
        said,
        /An object is seen where the detector is 0\.3 sure; numbers and places are not judged/,
      );
    });
    await t.step("what cannot be compared is refused", async () => {
      const refused = async (message: RegExp, ...words: readonly string[]) => {
        const { code, said } = await drtune("eval", ...words);
        assert.equal(code, 2, said);
        assert.match(said, message);
      };
      await refused(/Name what is to judge/, before, after);
      await refused(
        /Reward clip reads prompts, and pictures of .* have none/,
        before,
        after,
        "--reward",
        "clip",
      );
      await refused(
        /a folder of pictures has one of each prompt/,
        before,
        after,
        "--reward",
        "symmetry",
        "--images",
        "2",
      );
      await refused(
        /nothing untrained to compare it with/,
        before,
        "--benchmark",
        folder,
        "--reward",
        "symmetry",
      );
      await refused(
        /No such file or folder/,
        before,
        after,
        "--reward",
        "symmetry",
        "--prompts",
        join(folder, "x.txt"),
      );
      await refused(
        /holds neither pictures nor a model/,
        join(folder, "benchmark"),
        after,
        "--reward",
        "symmetry",
      );
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
