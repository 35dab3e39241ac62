import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { repositoryPath } from "../../tests/models/mod.ts";
import { loadClipTokenizer, loadTextTokenizer, TokenizerError } from "./mod.ts";

const GOLDEN = repositoryPath("tests/golden/flow");
const schema = z.record(
  z.string(),
  z.looseObject({ cases: z.array(z.object({ text: z.string(), ids: z.array(z.int()) })) }),
);

Deno.test("CLIP's, T5's and Qwen's tokenizers give transformers' ids", () => {
  const all = schema.parse(JSON.parse(Deno.readTextFileSync(join(GOLDEN, "tokens.json"))));
  assert.equal(Object.keys(all).length, 4);
  for (const [folder, { cases }] of Object.entries(all)) {
    const path = join(GOLDEN, folder);
    const isClip = Deno.readTextFileSync(join(path, "tokenizer_config.json"))
      .includes("CLIPTokenizer");
    const clip = isClip ? loadClipTokenizer(path) : undefined;
    const other = isClip ? undefined : loadTextTokenizer(path);
    for (const { text, ids } of cases) {
      const found = clip?.encode(text, { maxLength: 77 }) ?? other?.encode(text, 400);
      assert.deepEqual([...found?.ids.slice(0, found.length) ?? []], ids, `${folder}: ${text}`);
    }
  }
});

Deno.test("texts are cut before what closes them, and filled up with padding behind it", () => {
  const t5 = loadTextTokenizer(join(GOLDEN, "tiny-sd3/tokenizer_3"));
  const whole = t5.encode("a red cat", 12);
  const [length, closing] = [whole.length, whole.ids[whole.length - 1]];
  assert.ok(length < 12 && !whole.truncated);
  assert.deepEqual([...whole.ids.slice(length)], new Array(12 - length).fill(0));
  assert.deepEqual([...whole.mask], Array.from({ length: 12 }, (_, i) => i < length ? 1 : 0));
  const cut = t5.encode("a red cat", 4);
  assert.ok(cut.truncated);
  assert.deepEqual([...cut.ids], [...whole.ids.slice(0, 3), closing]);
  const qwen = loadTextTokenizer(join(GOLDEN, "tiny-zimage/tokenizer"));
  assert.deepEqual([...qwen.encode("a red cat", 3).ids], [
    ...qwen.encode("a red cat", 9).ids.slice(0, 3),
  ]);
});

Deno.test("what is no tokenizer of these kinds is refused by name", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = join(folder, "tokenizer_config.json");
    const file = join(folder, "tokenizer.json");
    const refused = (message: RegExp) =>
      assert.throws(() => loadTextTokenizer(folder), (error) => {
        assert.ok(error instanceof TokenizerError);
        assert.match(error.message, message);
        return true;
      });
    refused(/tokenizer\.json: does not exist/);
    Deno.writeTextFileSync(file, "{");
    refused(/tokenizer\.json: cannot be read as JSON/);
    Deno.writeTextFileSync(file, JSON.stringify({ model: { type: "WordPiece" } }));
    refused(/tokenizer\.json: "model\.type"/);
    Deno.copyFileSync(join(GOLDEN, "tiny-zimage/tokenizer/tokenizer.json"), file);
    refused(/tokenizer_config\.json: does not exist/);
    Deno.writeTextFileSync(config, JSON.stringify({ pad_token: "<none>" }));
    refused(/"pad_token" is "<none>", expected one of the added tokens/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
