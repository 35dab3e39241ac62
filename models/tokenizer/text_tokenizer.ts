import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { checkValue } from "../../base/mod.ts";
import { type Encoding, MAX_TEXT_LENGTH } from "./clip_tokenizer.ts";
import { TokenizerError } from "./tokenizer_error.ts";

const MAX_FILE_BYTES = 64 << 20;

const token = z.union([z.string(), z.looseObject({ content: z.string() })]);
const configSchema = z.looseObject({ pad_token: token.nullish() });
const fileSchema = z.looseObject({
  model: z.looseObject({ type: z.enum(["Unigram", "BPE"]) }),
  added_tokens: z.array(z.looseObject({ id: z.int(), content: z.string() })).default([]),
});

/** A tokenizer described by a `tokenizer.json`, as T5's and Qwen's are. */
export interface TextTokenizer {
  /**
   * `maxLength` ids: the text's, cut where they do not fit, then what closes every text ("</s>" in T5, nothing in
   * Qwen), then padding. Throws `TokenizerError` for text of more than `MAX_TEXT_LENGTH` characters.
   */
  encode(text: string, maxLength: number): Encoding;
}

/**
 * Loads a tokenizer of one of these kinds from a folder's `tokenizer.json` and `tokenizer_config.json`. Throws
 * `TokenizerError` naming the file where one is missing, damaged or of another kind.
 */
export function loadTextTokenizer(folder: string): TextTokenizer {
  const path = join(resolve(folder), "tokenizer.json");
  const description = read(path, fileSchema);
  const configPath = join(resolve(folder), "tokenizer_config.json");
  const config = read(configPath, configSchema);
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(description, config);
  } catch (cause) {
    throw new TokenizerError(`Tokenizer ${path}: cannot be used`, { cause });
  }
  const pad = typeof config.pad_token === "string" ? config.pad_token : config.pad_token?.content;
  const padId = description.added_tokens.find(({ content }) => content === pad)?.id;
  if (padId === undefined) {
    throw new TokenizerError(
      `Tokenizer ${configPath}: "pad_token" is ${JSON.stringify(pad) ?? "missing"}, expected one ` +
        "of the added tokens of tokenizer.json",
    );
  }
  let closing: readonly number[];
  try {
    closing = tokenizer.encode("").ids;
    tokenizer.encode("a fox, and books", { add_special_tokens: false });
  } catch (cause) {
    throw new TokenizerError(`Tokenizer ${path}: cannot be used`, { cause });
  }
  return {
    encode: (text, maxLength) => {
      if (text.length > MAX_TEXT_LENGTH) {
        throw new TokenizerError(
          `Text has ${text.length} characters, expected at most ${MAX_TEXT_LENGTH}`,
        );
      }
      const all = tokenizer.encode(text, { add_special_tokens: false }).ids;
      const own = all.slice(0, maxLength - closing.length);
      const found = [...own, ...closing];
      const ids = new Int32Array(maxLength).fill(padId);
      ids.set(found);
      const mask = new Int32Array(maxLength).fill(1, 0, found.length);
      return { ids, mask, length: found.length, truncated: own.length < all.length };
    },
  };
}

function read<S extends z.ZodType>(path: string, schema: S): z.output<S> {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) throw new TokenizerError(`Tokenizer ${path}: does not exist`);
  if (size > MAX_FILE_BYTES) {
    throw new TokenizerError(
      `Tokenizer ${path}: has ${size} bytes, expected at most ${MAX_FILE_BYTES}`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new TokenizerError(`Tokenizer ${path}: cannot be read as JSON`, { cause });
  }
  const checked = checkValue(schema, value);
  if (checked.fault === undefined) return checked.data;
  const { path: names, message } = checked.fault;
  throw new TokenizerError(`Tokenizer ${path}: "${names.join(".")}" ${message}`);
}
