import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeLines } from "../../../base/mod.ts";
import { resolveInputs } from "./inputs.ts";
import { repositoryPath } from "../../../tests/models/mod.ts";
import { withFolder } from "../../../tests/support/mod.ts";

const folder = repositoryPath("tests/published/lists");
const facts = async (name: string) =>
  (await resolveInputs([name], undefined)).map(({ id, prompt }) => [id, prompt]);

Deno.test("lists with a mark, of image folders and of other countries' Excel are read", () =>
  withFolder(async (place) => {
    const rows = [["a.PNG", 'a fox, and "books"'], ["b.JPG", "two"]];
    assert.deepEqual(await facts(join(folder, "list_bom.csv")), rows);
    assert.deepEqual(await facts(join(folder, "metadata.jsonl")), [["a.PNG", "hello"]]);
    const list = join(place, "list.csv");
    for (const delimiter of [";", "\t"]) {
      const text =
        `\ufefffile_name${delimiter}text\r\na.PNG${delimiter}"a fox, and ""books"""\r\nb.JPG${delimiter}two\r\n`;
      const units = Uint16Array.from(text, (ch) => ch.charCodeAt(0));
      await Deno.writeFile(list, new Uint8Array(units.buffer));
      assert.deepEqual(await facts(list), rows);
    }
    await Deno.writeTextFile(list, 'sep=|\r\nFile_Name|Text\r\na.PNG|"a fox, and ""books"""\r\n');
    assert.deepEqual(await facts(list), rows.slice(0, 1));
    const tabs = join(place, "list.tsv");
    await Deno.writeTextFile(tabs, "Image\tPrompt\rb.JPG\ttwo\r");
    assert.deepEqual(await facts(tabs), rows.slice(1));
    // A folder's own list gives its pictures' prompts.
    await Deno.writeFile(join(place, "a.PNG"), new Uint8Array());
    await Deno.copyFile(join(folder, "metadata.jsonl"), join(place, "metadata.jsonl"));
    assert.deepEqual(await facts(place), [[join(place, "a.PNG"), "hello"]]);
    await Deno.writeFile(list, Uint8Array.of(0x69, 0xff, 0x0a));
    await assert.rejects(
      facts(list),
      /list\.csv is not UTF-8, expected UTF-8, or UTF-16 with its mark/,
    );
  }));

Deno.test("columns of open_clip's lists and of trainers' captions are known", () =>
  withFolder(async (place) => {
    const list = join(place, "list.csv");
    await Deno.writeTextFile(list, "filepath\ttitle\na.png\ta fox\n");
    assert.deepEqual(await facts(list), [["a.png", "a fox"]]);
    await Deno.writeTextFile(list, "id,caption,path,image\n1,a fox,images/b.png,a.png\n");
    assert.deepEqual(await facts(list), [["a.png", "a fox"]]);
    const lines = join(place, "metadata.jsonl");
    const row = { caption: "a shirt", image: "images/1.png", padded_image: "padded/1.png" };
    await Deno.writeTextFile(lines, `${JSON.stringify(row)}\n`);
    assert.deepEqual(await facts(lines), [["images/1.png", "a shirt"]]);
    await Deno.writeTextFile(list, "url,caption\nx,y\n");
    await assert.rejects(
      facts(list),
      /no column "image" or "file_name" \(or filepath, .*found url/,
    );
  }));

Deno.test("a prompt file that PowerShell wrote is read as UTF-16", async () => {
  const path = join(folder, "prompts16.txt");
  const lines = decodeLines(await Deno.readFile(path), path);
  assert.ok(lines.length > 0 && lines.every((line) => !line.includes("\0")), String(lines));
  assert.deepEqual(lines, EXPECTED);
});

const EXPECTED = ["a fox"];
