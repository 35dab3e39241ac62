import assert from "node:assert/strict";
import { join } from "node:path";
import { ClipTokenizer, loadClipTokenizer, MAX_TEXT_LENGTH, TokenizerError } from "./mod.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");

interface Golden {
  readonly texts: readonly string[];
  readonly maxLength: number;
  readonly folders: Readonly<Record<string, GoldenFolder>>;
}

/** Ids of every text without padding; made by testdata/make_tokens.py. */
interface GoldenFolder {
  readonly padId: number;
  readonly modelMaxLength: number;
  readonly hf: readonly (readonly number[])[];
  readonly openClip?: readonly (readonly number[])[];
}

const { texts, maxLength, folders }: Golden = JSON.parse(
  Deno.readTextFileSync(join(TESTDATA, "tokens.json")),
);

for (const [name, golden] of Object.entries(folders)) {
  const tokenizer = loadClipTokenizer(join(TESTDATA, name));

  Deno.test(`${name}: ids, mask and padding equal those of transformers and open_clip`, () => {
    assert.equal(tokenizer.padId, golden.padId);
    assert.equal(tokenizer.modelMaxLength, golden.modelMaxLength);
    assert.equal(golden.hf.length, texts.length);
    for (const [i, text] of texts.entries()) {
      for (
        const [layout, expected, pad] of [
          ["hf", golden.hf[i], golden.padId],
          ["open_clip", golden.openClip?.[i], 0],
        ] as const
      ) {
        if (expected === undefined) continue;
        const { ids, mask, length } = tokenizer.encode(text, { maxLength, layout });
        const row = Array.from({ length: maxLength }, (_, at) => expected[at] ?? pad);
        const ones = row.map((_, at) => at < expected.length ? 1 : 0);
        assert.deepEqual([...ids], row, `${layout}: ${JSON.stringify(text)}`);
        assert.deepEqual([...mask], ones, text);
        assert.equal(length, expected.length, text);
      }
    }
  });
}

const tokenizer = loadClipTokenizer(join(TESTDATA, "clip_tokenizer_vocab"));

Deno.test("text that does not fit is cut off before the end token, and said to be", () => {
  const whole = tokenizer.encode("a red cat, and books.", { maxLength: 12 });
  assert.deepEqual([whole.length, whole.truncated], [9, false]);
  const exact = tokenizer.encode("a red cat, and books.", { maxLength: 9 });
  assert.deepEqual([exact.length, exact.truncated], [9, false]);
  for (const layout of ["hf", "open_clip"] as const) {
    const cut = tokenizer.encode("a red cat, and books.", { maxLength: 8, layout });
    assert.deepEqual([...cut.ids], [...whole.ids.slice(0, 7), tokenizer.eosId]);
    assert.deepEqual([cut.length, cut.truncated], [8, true]);
    const least = tokenizer.encode("a red cat", { maxLength: 2, layout });
    assert.deepEqual([...least.ids], [tokenizer.bosId, tokenizer.eosId]);
  }
});

Deno.test("the model's own length is the default, and one must be known", () => {
  assert.equal(tokenizer.encode("a").ids.length, 77);
  for (const bad of [1, 0, -1, 2.5, NaN]) {
    assert.throws(
      () => tokenizer.encode("a", { maxLength: bad }),
      /maxLength is .*; expected an int/,
    );
  }
  const vocab = new Map([["<|startoftext|>", 512], ["<|endoftext|>", 513]]);
  for (const [i, symbol] of byteSymbols().entries()) vocab.set(symbol, i);
  const special = { addedTokens: [], bosId: 512, eosId: 513, padId: 513 };
  const bare = new ClipTokenizer({ vocab, merges: [], ...special });
  assert.equal(bare.vocabSize, 514);
  assert.throws(() => bare.encode("a"), /maxLength is undefined/);
  assert.deepEqual([...bare.encode("ab", { maxLength: 4 }).ids], [512, 64, 65 + 256, 513]);
});

Deno.test("text is refused by its length before anything is done with it", () => {
  assert.throws(() => tokenizer.encode("a".repeat(1_000_000)), (error) => {
    assert.ok(error instanceof TokenizerError);
    assert.equal(error.message, "Text has 1000000 characters; expected at most 100000");
    return true;
  });
  for (const layout of ["hf", "open_clip"] as const) {
    for (const part of ["a", "漢", "&amp;", "&", "<|", "\u0301"]) {
      const text = part.repeat(Math.floor(MAX_TEXT_LENGTH / part.length));
      assert.ok(tokenizer.encode(text, { layout }).truncated);
    }
  }
});

Deno.test("a lone surrogate counts as the replacement character", () => {
  for (const layout of ["hf", "open_clip"] as const) {
    const ids = (text: string) => tokenizer.encode(text, { layout }).ids;
    assert.deepEqual(ids("a\ud800b"), ids("a\ufffdb"));
  }
});

Deno.test("merges apply by rank first and position second, also where they overlap", () => {
  const symbols = byteSymbols();
  const vocab = new Map(symbols.map((symbol, i) => [symbol, i]));
  const merges = ["a a", "aa a", "b a", "a b</w>"].map((line): [string, string] => {
    const [left = "", right = ""] = line.split(" ");
    vocab.set(left + right, vocab.size);
    return [left, right];
  });
  const special = { addedTokens: [], bosId: 0, eosId: 0, padId: 0 };
  const tokenizer = new ClipTokenizer({ vocab, merges, ...special });
  const names = new Map([...vocab].map(([symbol, id]) => [id, symbol]));
  const split = (text: string) => {
    const { ids, length } = tokenizer.encode(text, { maxLength: 50 });
    return [...ids.slice(1, length - 1)].map((id) => names.get(id)).join(" ");
  };
  assert.equal(split("aaaax"), "aa aa x</w>");
  assert.equal(split("aaaaax"), "aa aaa x</w>");
  assert.equal(split("baab"), "b aa b</w>");
  assert.equal(split("bab"), "ba b</w>");
  assert.equal(split("aab"), "aa b</w>");
  assert.equal(split("b"), "b</w>");
});

/** The symbols of the 256 bytes, then of those that end a word, in the order of the published vocabularies. */
function byteSymbols(): string[] {
  const printed = [[0x21, 0x7e], [0xa1, 0xac], [0xae, 0xff]].flatMap(([from = 0, to = 0]) =>
    Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i))
  );
  const others = Array.from(
    { length: 256 - printed.length },
    (_, i) => String.fromCharCode(0x100 + i),
  );
  const symbols = [...printed, ...others];
  return [...symbols, ...symbols.map((symbol) => `${symbol}</w>`)];
}
