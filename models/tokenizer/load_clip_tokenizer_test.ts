import assert from "node:assert/strict";
import { join } from "node:path";
import { loadClipTokenizer, TokenizerError } from "./mod.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");

/** Runs with a copy of a folder of testdata, changed: text replaces a file, null removes it. */
function withCopy(
  name: string,
  changes: Record<string, string | object | null>,
  action: (folder: string) => void,
): void {
  const folder = Deno.makeTempDirSync();
  try {
    for (const { name: file } of Deno.readDirSync(join(TESTDATA, name))) {
      Deno.copyFileSync(join(TESTDATA, name, file), join(folder, file));
    }
    for (const [file, content] of Object.entries(changes)) {
      if (content === null) Deno.removeSync(join(folder, file));
      else {
        const text = typeof content === "string" ? content : JSON.stringify(content);
        Deno.writeTextFileSync(join(folder, file), text);
      }
    }
    action(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const read = (name: string, file: string) =>
  JSON.parse(Deno.readTextFileSync(join(TESTDATA, name, file)));
const WHOLE = read("clip_tokenizer_json", "tokenizer.json");
const VOCAB = read("clip_tokenizer_vocab", "vocab.json");

Deno.test("without configuration the special tokens are CLIP's, and no length is known", () => {
  const changes = { "tokenizer_config.json": null, "special_tokens_map.json": null };
  withCopy("clip_tokenizer_vocab", changes, (folder) => {
    const { bosId, eosId, padId, modelMaxLength, vocabSize } = loadClipTokenizer(folder);
    assert.deepEqual([bosId, eosId, padId, modelMaxLength, vocabSize], [
      543,
      544,
      544,
      undefined,
      545,
    ]);
  });
});

Deno.test("added tokens beyond the vocabulary are recognised in text", () => {
  const added = {
    "545": { content: "<Cat>", normalized: false },
    "546": { content: "<dog>", normalized: true },
  };
  const changes = { "tokenizer_config.json": { added_tokens_decoder: added } };
  withCopy("clip_tokenizer_vocab", changes, (folder) => {
    const tokenizer = loadClipTokenizer(folder);
    assert.equal(tokenizer.vocabSize, 547);
    const ids = (text: string) => {
      const { ids, length } = tokenizer.encode(text, { maxLength: 30 });
      return [...ids.slice(1, length - 1)];
    };
    assert.deepEqual(ids("<Cat><DOG> <dog>"), [545, 546, 546]);
    assert.deepEqual(ids("<cat>").includes(545), false);
    // open_clip knows no added tokens.
    assert.ok(!tokenizer.encode("<Cat>", { maxLength: 9, layout: "open_clip" }).ids.includes(545));
  });
});

Deno.test("merges as pairs, as newer files have them, are read like merges as text", () => {
  const merges = WHOLE.model.merges.map((m: string | string[]) =>
    typeof m === "string" ? m.split(" ") : m.join(" ")
  );
  const changed = { ...WHOLE, model: { ...WHOLE.model, merges } };
  withCopy("clip_tokenizer_json", { "tokenizer.json": changed }, (folder) => {
    const text = "a red cat, and books.";
    assert.deepEqual(
      loadClipTokenizer(folder).encode(text),
      loadClipTokenizer(join(TESTDATA, "clip_tokenizer_json")).encode(text),
    );
  });
});

const { a: _, ...without } = VOCAB;
const model = (changes: object) => ({
  "tokenizer.json": { ...WHOLE, model: { ...WHOLE.model, ...changes } },
});
const added = (token: object) => ({
  "tokenizer_config.json": { added_tokens_decoder: { "0": token } },
});

for (
  const [name, folder, changes, message] of [
    [
      "no vocabulary",
      "clip_tokenizer_vocab",
      { "vocab.json": null },
      /vocab\.json: does not exist/,
    ],
    ["no merges", "clip_tokenizer_vocab", { "merges.txt": null }, /merges\.txt: does not exist/],
    ["no JSON", "clip_tokenizer_vocab", { "vocab.json": "{" }, /vocab\.json: is not valid JSON/],
    ["a list", "clip_tokenizer_vocab", { "vocab.json": [] }, /vocab\.json: is not a JSON object/],
    [
      "an id that is text",
      "clip_tokenizer_vocab",
      { "vocab.json": { a: "1" } },
      /id of "a" is "1", expected an integer/,
    ],
    ["a negative id", "clip_tokenizer_vocab", { "vocab.json": { a: -1 } }, /id of "a" is -1/],
    [
      "a huge id",
      "clip_tokenizer_vocab",
      { "vocab.json": { a: 1e12 } },
      /id of "a" is 1000000000000/,
    ],
    [
      "a missing byte",
      "clip_tokenizer_vocab",
      { "vocab.json": without },
      /Vocabulary lacks "a", needed for byte 97/,
    ],
    [
      "a merge of one symbol",
      "clip_tokenizer_vocab",
      { "merges.txt": "#version: 0.2\na\n" },
      /merges\.txt: line 2 is "a", expected two symbols/,
    ],
    [
      "a merge of the unknown",
      "clip_tokenizer_vocab",
      { "merges.txt": "a qqq\n" },
      /Vocabulary lacks "qqq", needed for merge 1/,
    ],
    [
      "a merge into the unknown",
      "clip_tokenizer_vocab",
      { "merges.txt": "q x\n" },
      /Vocabulary lacks "qx", needed for merge 1/,
    ],
    [
      "a pad outside",
      "clip_tokenizer_vocab",
      { "special_tokens_map.json": { pad_token: "[PAD]" } },
      /pad_token is "\[PAD\]", which the vocabulary lacks/,
    ],
    [
      "another model",
      "clip_tokenizer_json",
      model({ type: "Unigram" }),
      /model is "Unigram" with suffix "<\/w>", expected "BPE"/,
    ],
    [
      "another suffix",
      "clip_tokenizer_json",
      model({ end_of_word_suffix: null }),
      /model is "BPE" with suffix null/,
    ],
    ["another normaliser", "clip_tokenizer_json", {
      "tokenizer.json": { ...WHOLE, normalizer: { type: "NFKC" } },
    }, /steps are NFKC, Split, ByteLevel, expected NFC/],
    [
      "no merges in JSON",
      "clip_tokenizer_json",
      model({ merges: null }),
      /has no list model\.merges/,
    ],
    [
      "a bad merge in JSON",
      "clip_tokenizer_json",
      model({ merges: [["a"]] }),
      /model\.merges\[0\] is \["a"\], expected two symbols/,
    ],
    ["no vocabulary in JSON", "clip_tokenizer_json", model({ vocab: [] }), /has no vocabulary/],
    [
      "an added token without text",
      "clip_tokenizer_json",
      added({}),
      /added token is \{\}, expected one with content/,
    ],
    [
      "an added token of another id",
      "clip_tokenizer_json",
      added({ content: "a" }),
      /added token "a" is 0, expected 64/,
    ],
    [
      "a stripping token",
      "clip_tokenizer_json",
      added({ content: "!", lstrip: true }),
      /added token "!" has lstrip, which is not known/,
    ],
  ] as const
) {
  Deno.test(`tokenizer refuses: ${name}`, () =>
    withCopy(folder, changes, (path) =>
      assert.throws(() => loadClipTokenizer(path), (error) => {
        assert.ok(error instanceof TokenizerError);
        assert.ok(error.message.includes(path), error.message);
        assert.match(error.message, message);
        return true;
      })));
}
