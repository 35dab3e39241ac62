import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type ClipTokenizer,
  loadClipTokenizer,
  TokenizerError,
  type TokenLayout,
} from "../models/tokenizer/mod.ts";
import { RewardConfigError } from "./errors.ts";

/** A tokenizer that fits a text tower, and the digest of its files. */
export interface TextCodec {
  readonly encode: (text: string) => readonly number[];
  /** How many ids a text has, begin, end and padding included. */
  readonly tokens: number;
  /** Whether a text has more, so that its end is cut off. */
  readonly cuts: (text: string) => boolean;
  /** 1 for each of those ids that is not padding, else 0. */
  readonly mask: (text: string) => readonly number[];
  readonly digest: string;
}

const FILES = [
  "tokenizer.json",
  "vocab.json",
  "merges.txt",
  "tokenizer_config.json",
  "special_tokens_map.json",
];

/**
 * Opens the tokenizer in `folder`, cutting and padding to the tower's context. Throws `TokenizerError` naming the
 * file, or `RewardConfigError` where it has ids that the tower cannot embed or, without a `tokenizer` in the
 * configuration, the model's own folder has none.
 */
export function openTextCodec(
  { tokenizer: given, modelFolder }: {
    readonly tokenizer: string | undefined;
    readonly modelFolder: string;
  },
  { vocabSize, contextLength, layout }: {
    readonly vocabSize: number;
    readonly contextLength: number;
    readonly layout: TokenLayout;
  },
): TextCodec {
  const folder = given ?? modelFolder;
  const tokenizer = load(folder, given === undefined);
  if (tokenizer.vocabSize > vocabSize) {
    throw new RewardConfigError(
      `Tokenizer ${folder} has ${tokenizer.vocabSize} ids, the model embeds ${vocabSize}`,
    );
  }
  const hash = createHash("sha256");
  for (const name of readdirSync(folder).filter((n) => FILES.includes(n)).sort()) {
    hash.update(`${name}\n`).update(readFileSync(join(folder, name)));
  }
  const encoded = (text: string) => tokenizer.encode(text, { maxLength: contextLength, layout });
  return {
    encode: (text) => [...encoded(text).ids],
    tokens: contextLength,
    cuts: (text) => encoded(text).truncated,
    mask: (text) => [...encoded(text).mask],
    digest: hash.digest("hex"),
  };
}

function load(folder: string, isDefault: boolean): ClipTokenizer {
  try {
    return loadClipTokenizer(folder);
  } catch (cause) {
    if (!isDefault || !(cause instanceof TokenizerError)) throw cause;
    throw new RewardConfigError(
      `Reward field "tokenizer" is missing, and the folder of the weights has none: ${cause.message}`,
      { cause },
    );
  }
}
