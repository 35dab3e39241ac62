import { BytePairs } from "./_byte_pairs.ts";
import { cleanOpenClipText } from "./_open_clip_text.ts";
import { TokenizerError } from "./tokenizer_error.ts";

/** Longest text accepted, in UTF-16 code units. No encoder reads more than a few hundred of them. */
export const MAX_TEXT_LENGTH = 100_000;

/**
 * How text becomes ids. "hf" does as `CLIPTokenizer` of transformers: NFC, lower case, special tokens recognised inside
 * the text, padded with the model's own pad token. "open_clip" does as open_clip's and CLIP's own tokenizer: repaired by
 * ftfy, HTML unescaped, lower case, padded with 0. They differ in the pad, and on text with accents in pieces, quotes,
 * escapes or full-width letters.
 */
export type TokenLayout = "hf" | "open_clip";

/** Options of `ClipTokenizer.encode`. */
export interface EncodeOptions {
  /** Ids returned, with begin, end and padding; 2 or more. Default: the tokenizer's `modelMaxLength`. */
  readonly maxLength?: number;
  /** Default "hf". */
  readonly layout?: TokenLayout;
}

/** One text as ids. */
export interface Encoding {
  /** `maxLength` ids: begin, text, end, padding. */
  readonly ids: Int32Array;
  /** 1 for each id that is not padding, else 0. */
  readonly mask: Int32Array;
  /** How many ids are not padding. */
  readonly length: number;
  /** True when the text's ids did not all fit, so that its end was cut off. */
  readonly truncated: boolean;
}

/** A token recognised as a whole inside text, in the "hf" layout. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Looked for after the text is normalised, instead of before. */
  readonly normalized: boolean;
}

/** What a tokenizer is made of. */
export interface ClipVocabulary {
  /** Symbols and their ids. Must hold all 256 bytes, inside and at the end of a word. */
  readonly vocab: ReadonlyMap<string, number>;
  /** Pairs of symbols to join, most urgent first. */
  readonly merges: readonly (readonly [string, string])[];
  readonly addedTokens: readonly AddedToken[];
  readonly bosId: number;
  readonly eosId: number;
  /** Pads the "hf" layout. */
  readonly padId: number;
  /** Length that the model was trained with. */
  readonly modelMaxLength?: number;
}

const SPECIAL = String.raw`<\|startoftext\|>|<\|endoftext\|>`;
const HF_WORDS = new RegExp(
  SPECIAL + String.raw`|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+`,
  "gu",
);
// open_clip ignores case here: the long s is an s then, and U+0345, whose capital is a letter, matches nothing.
const OPEN_CLIP_WORDS =
  /<start_of_text>|<end_of_text>|'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}\u0345]+/gu;

/** The byte-pair tokenizer of CLIP's text encoders, lower-casing, with begin and end tokens. */
export class ClipTokenizer {
  /** Id of `<|startoftext|>`. */
  readonly bosId: number;
  /** Id of `<|endoftext|>`. */
  readonly eosId: number;
  /** Id that pads the "hf" layout; depends on the model. */
  readonly padId: number;
  /** Length that the model was trained with; undefined when its files do not say. */
  readonly modelMaxLength: number | undefined;
  /** One more than the greatest id. */
  readonly vocabSize: number;
  readonly #pairs: BytePairs;
  readonly #rawTokens: AddedTokens;
  readonly #normalizedTokens: AddedTokens;

  /** Throws `TokenizerError` when the vocabulary lacks a byte's symbol or a merge's parts or result. */
  constructor(vocabulary: ClipVocabulary) {
    const { vocab, merges, addedTokens } = vocabulary;
    this.bosId = vocabulary.bosId;
    this.eosId = vocabulary.eosId;
    this.padId = vocabulary.padId;
    this.modelMaxLength = vocabulary.modelMaxLength;
    this.#pairs = new BytePairs(vocab, merges);
    this.#rawTokens = new AddedTokens(addedTokens.filter((token) => !token.normalized));
    this.#normalizedTokens = new AddedTokens(
      addedTokens.filter((token) => token.normalized)
        .map((token) => ({ ...token, content: normalize(token.content) })),
    );
    const ids = [...vocab.values(), ...addedTokens.map((token) => token.id)];
    this.vocabSize = ids.reduce((size, id) => Math.max(size, id + 1), 0);
  }

  /**
   * Encodes one text. Throws `TokenizerError` when it is longer than `MAX_TEXT_LENGTH`, `RangeError` for a bad
   * `maxLength` or when there is none.
   */
  encode(
    text: string,
    { maxLength = this.modelMaxLength, layout = "hf" }: EncodeOptions = {},
  ): Encoding {
    if (text.length > MAX_TEXT_LENGTH) {
      throw new TokenizerError(
        `Text has ${text.length} characters; expected at most ${MAX_TEXT_LENGTH}`,
      );
    }
    if (maxLength === undefined || !Number.isSafeInteger(maxLength) || maxLength < 2) {
      throw new RangeError(`maxLength is ${maxLength}; expected an integer of at least 2`);
    }
    const content = layout === "hf" ? this.#encodeHf(text) : this.#encodeOpenClip(text);
    const length = Math.min(content.length + 2, maxLength);
    const ids = new Int32Array(maxLength).fill(layout === "hf" ? this.padId : 0);
    ids.set(content.slice(0, length - 2), 1);
    ids[0] = this.bosId;
    ids[length - 1] = this.eosId;
    const mask = new Int32Array(maxLength).fill(1, 0, length);
    return { ids, mask, length, truncated: content.length + 2 > maxLength };
  }

  #encodeHf(text: string): number[] {
    const ids: number[] = [];
    this.#rawTokens.split(text.toWellFormed(), ids, (raw) => {
      this.#normalizedTokens.split(normalize(raw), ids, (normalized) => {
        for (const [word] of normalized.matchAll(HF_WORDS)) {
          // A special token in the wrong case is no special token: the second split of the original takes it apart.
          const isSpecial = word.startsWith("<|") && word.endsWith("text|>");
          if (isSpecial) {
            for (const part of ["<|", word.slice(2, -2), "|>"]) this.#encodeWord(part, ids);
          } else this.#encodeWord(word, ids);
        }
      });
    });
    return ids;
  }

  #encodeOpenClip(text: string): number[] {
    const ids: number[] = [];
    for (const [word] of cleanOpenClipText(text).matchAll(OPEN_CLIP_WORDS)) {
      if (word === "<start_of_text>") ids.push(this.bosId);
      else if (word === "<end_of_text>") ids.push(this.eosId);
      else this.#encodeWord(word, ids);
    }
    return ids;
  }

  #encodeWord(word: string, ids: number[]): void {
    this.#pairs.encode(UTF8.encode(word), ids);
  }
}

const UTF8 = new TextEncoder();

/** Lower case one character at a time, as the original does: no final sigma. */
function normalize(text: string): string {
  return text.normalize("NFC").replace(/\P{Lowercase}/gu, (character) => character.toLowerCase());
}

/** Tokens that are looked for as they are. */
class AddedTokens {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #pattern: RegExp | undefined;

  constructor(tokens: readonly AddedToken[]) {
    this.#ids = new Map(tokens.map(({ content, id }) => [content, id]));
    const longestFirst = [...this.#ids.keys()].sort((a, b) => b.length - a.length);
    if (longestFirst.length > 0) {
      this.#pattern = new RegExp(
        longestFirst.map((content) => RegExp.escape(content)).join("|"),
        "gu",
      );
    }
  }

  /** Appends the ids of the tokens found to `ids`, and hands what lies between them to `between`, in order. */
  split(text: string, ids: number[], between: (text: string) => void): void {
    let done = 0;
    if (this.#pattern) {
      for (const match of text.matchAll(this.#pattern)) {
        if (match.index > done) between(text.slice(done, match.index));
        ids.push(this.#ids.get(match[0]) ?? -1);
        done = match.index + match[0].length;
      }
    }
    if (done < text.length) between(text.slice(done));
  }
}
