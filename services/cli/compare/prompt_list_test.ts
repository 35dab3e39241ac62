import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../command.ts";
import { readPromptList } from "./prompt_list.ts";

Deno.test("lists of prompts by category are read as their benchmarks are published", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-prompts-"));
  const write = async (name: string, text: string) => {
    const path = join(folder, name);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, text);
    return path;
  };
  const read = async (path: string) =>
    (await readPromptList(path)).map(({ prompt, category, index }) => [prompt, category, index]);
  const refused = async (path: string, message: RegExp) =>
    await assert.rejects(readPromptList(path), (error) => {
      assert.ok(error instanceof UsageError, `${error}`);
      assert.match(error.message, message);
      return true;
    });
  try {
    await t.step("HPS v2: a folder of JSON lists", async () => {
      await write("hps/photo.json", '["a man, \\"waving\\"", "a dog"]');
      await write("hps/anime.json", '["a girl"]');
      await write("hps/benchmark_imgs/SD/anime.txt", "not a list of prompts");
      assert.deepEqual(await read(join(folder, "hps")), [
        ["a girl", "anime", 0],
        ['a man, "waving"', "photo", 0],
        ["a dog", "photo", 1],
      ]);
      await refused(await write("bad.json", '["a", 1]'), /bad\.json: expected a list of prompts/);
      await refused(await write("worse.json", "["), /worse\.json: not JSON/);
    });
    await t.step("PartiPrompts: a table with tabs", async () => {
      const path = await write(
        "parti/PartiPrompts.tsv",
        "Prompt\tCategory\tChallenge\tNote\r\n" +
          "bond\tAbstract\tBasic\tBiology-inspired concepts\r\n" +
          '"a sign that says ""Hello"""\tArts\tWriting & Symbols\t\r\n' +
          "a 'quoted' word, with a comma\tAbstract\tBasic\t\r\n",
      );
      const expected = [
        ["bond", "Abstract", 0],
        ['a sign that says "Hello"', "Arts", 0],
        ["a 'quoted' word, with a comma", "Abstract", 1],
      ];
      assert.deepEqual(await read(path), expected);
      assert.deepEqual(await read(join(folder, "parti")), expected);
      await refused(
        await write("x.tsv", "Text\tCategory\na\tb\n"),
        /x\.tsv:1: no column "prompt", found Text/,
      );
      await refused(await write("y.tsv", "Prompt\tCategory\n\tb\n"), /y\.tsv:2: "prompt" is empty/);
    });
    await t.step("GenEval: a JSON object a line", async () => {
      const path = await write(
        "evaluation_metadata.jsonl",
        '{"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}\n' +
          '{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}], "prompt": "a photo of two clocks"}\n' +
          '{"tag": "colors", "include": [{"class": "car", "count": 1, "color": "pink"}], "prompt": "a photo of a pink car"}\n',
      );
      const list = await readPromptList(path);
      assert.deepEqual(list.map(({ category }) => category), [
        "single_object",
        "counting",
        "colors",
      ]);
      assert.deepEqual(list.map(({ objects }) => objects?.include), [["bench"], ["clock"], [
        "pink car",
      ]]);
      await refused(
        await write("z.jsonl", '{"prompt": "a"}\n{"tag": "b"}\n'),
        /z\.jsonl:2: prompt is missing, expected text/,
      );
    });
    await t.step("text with categories", async () => {
      const path = await write("mine.txt", "a fox\n# places\n\na house\n#\na cat\n");
      assert.deepEqual(await read(path), [["a fox", "all", 0], ["a house", "places", 0], [
        "a cat",
        "all",
        1,
      ]]);
      await refused(await write("empty.txt", "# nothing\n"), /empty\.txt holds no prompt/);
      await refused(join(folder, "missing"), /^No such file or folder: /);
      await write("two/a.txt", "a");
      await write("two/b.txt", "b");
      await refused(join(folder, "two"), /has a\.txt and b\.txt: name one of them/);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
