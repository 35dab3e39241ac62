import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { type AddedToken, ClipTokenizer } from "./clip_tokenizer.ts";
import { TokenizerError } from "./tokenizer_error.ts";

const CONFIG = "tokenizer_config.json";
const MAX_FILE_BYTES = 64 << 20;

/** Lengths beyond are transformers' way to say that none is set. */
const MAX_MODEL_LENGTH = 1_000_000;

type Json = Record<string, unknown>;

/** A tokenizer's folder, and the token that fills up sequences where it is not the folder's own. */
export interface TokenizerPlace {
  readonly folder: string;
  readonly padToken: string;
}

/** Merges of CLIP's own tokenizer, from which its vocabulary follows. */
const CLIP_MERGES = 48_894;

/**
 * Loads a CLIP tokenizer from a folder: `tokenizer.json`, or `vocab.json` and `merges.txt`; pad token, added tokens and
 * length from `tokenizer_config.json` and `special_tokens_map.json` where they are. Throws `TokenizerError`, naming file
 * and field, when a file is missing, damaged, or of another kind of tokenizer.
 */
export function loadClipTokenizer(place: string | TokenizerPlace): ClipTokenizer {
  const { folder, padToken } = typeof place === "string"
    ? { folder: place, padToken: undefined }
    : place;
  const files = new Files(folder);
  const config = files.optional(CONFIG) ?? {};
  const whole = files.optional("tokenizer.json");
  const { vocab, merges } = whole ? fromTokenizerJson(files, whole) : fromVocabAndMerges(files);
  const listed = listedTokens(files, { config, whole });
  for (const { content, id } of listed) {
    const known = vocab.get(content) ?? id;
    if (known !== id) {
      files.fail(CONFIG, `added token ${JSON.stringify(content)} is ${id}, expected ${known}`);
    }
    vocab.set(content, id);
  }
  const named = {
    ...config,
    ...files.optional("special_tokens_map.json"),
    ...(padToken !== undefined && { pad_token: padToken }),
  };
  const [bos, eos, unk, pad] = [
    specialToken(files, { vocab, named, key: "bos_token", fallback: "<|startoftext|>" }),
    specialToken(files, { vocab, named, key: "eos_token", fallback: "<|endoftext|>" }),
    specialToken(files, { vocab, named, key: "unk_token", fallback: "<|endoftext|>" }),
    specialToken(files, { vocab, named, key: "pad_token", fallback: "<|endoftext|>" }),
  ];
  // Of several descriptions of one token the last holds, and a list with ids more than a name.
  const added = new Map([bos, eos, unk, pad, ...listed].map((token) => [token.content, token]));

  const modelMaxLength = config["model_max_length"];
  const isLength = typeof modelMaxLength === "number" && modelMaxLength <= MAX_MODEL_LENGTH;
  return files.explain(() =>
    new ClipTokenizer({
      vocab,
      merges,
      addedTokens: [...added.values()],
      bosId: bos.id,
      eosId: eos.id,
      padId: pad.id,
      ...(isLength ? { modelMaxLength } : {}),
    })
  );
}

interface Pairs {
  readonly vocab: Map<string, number>;
  readonly merges: [string, string][];
}

function fromVocabAndMerges(files: Files): Pairs {
  const known = files.optional("vocab.json");
  const text = known === undefined ? files.optionalText("merges.txt") : files.text("merges.txt");
  const merges = (text ?? "").split(/\r?\n/).flatMap((line, i) => {
    if (line === "" || (i === 0 && line.startsWith("#version"))) return [];
    return [mergeOf(files, { name: "merges.txt", field: `line ${i + 1}` }, line)];
  });
  const vocab = known === undefined && merges.length === CLIP_MERGES
    ? clipVocabulary(merges)
    : vocabOf(files, "vocab.json", known ?? files.json("vocab.json"));
  return { vocab, merges };
}

/** CLIP's vocabulary: bytes, bytes that end a word, merged symbols in the order of their merges, and two marks. */
function clipVocabulary(merges: readonly [string, string][]): Map<string, number> {
  const all = Array.from({ length: 256 }, (_, byte) => byte);
  // Bytes that print stand for themselves; the others are moved beyond them.
  const prints = (b: number) =>
    (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  const moved = all.filter((b) => !prints(b)).map((_, i) => 256 + i);
  const bytes = [...all.filter(prints), ...moved].map((code) => String.fromCharCode(code));
  const symbols = [
    ...bytes,
    ...bytes.map((symbol) => `${symbol}</w>`),
    ...merges.map(([left, right]) => left + right),
    "<|startoftext|>",
    "<|endoftext|>",
  ];
  return new Map(symbols.map((symbol, id) => [symbol, id]));
}

function fromTokenizerJson(files: Files, { model, normalizer, pre_tokenizer: split }: Json): Pairs {
  const name = "tokenizer.json";
  if (!isObject(model)) return files.fail(name, "has no object model");
  if (model["type"] !== "BPE" || model["end_of_word_suffix"] !== "</w>") {
    return files.fail(
      name,
      `model is ${JSON.stringify(model["type"])} with suffix ${
        JSON.stringify(model["end_of_word_suffix"])
      }, expected "BPE" with "</w>" as CLIP has`,
    );
  }
  const steps = [...typesOf(normalizer, "normalizers"), ...typesOf(split, "pretokenizers")].join(
    ", ",
  );
  if (steps !== "NFC, Replace, Lowercase, Split, ByteLevel") {
    return files.fail(
      name,
      `steps are ${
        steps || "none"
      }, expected NFC, Replace, Lowercase, Split, ByteLevel as CLIP has`,
    );
  }
  const { merges } = model;
  if (!Array.isArray(merges)) return files.fail(name, "has no list model.merges");
  return {
    vocab: vocabOf(files, name, model["vocab"]),
    merges: merges.map((merge, i) => mergeOf(files, { name, field: `model.merges[${i}]` }, merge)),
  };
}

function typesOf(step: unknown, key: string): unknown[] {
  if (!isObject(step)) return [];
  const steps = step[key];
  return Array.isArray(steps) ? steps.map((s) => isObject(s) ? s["type"] : s) : [step["type"]];
}

function vocabOf(files: Files, name: string, value: unknown): Map<string, number> {
  if (!isObject(value)) return files.fail(name, "has no vocabulary, expected an object of ids");
  return new Map(
    Object.entries(value).map(([symbol, id]) => [symbol, idFrom(files, name, { symbol, id })]),
  );
}

function idFrom(
  files: Files,
  name: string,
  { symbol, id }: { symbol: string; id: unknown },
): number {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < 2 ** 24) return id;
  return files.fail(
    name,
    `id of ${JSON.stringify(symbol)} is ${JSON.stringify(id)}, expected an integer from 0 to 2^24`,
  );
}

/** A merge is "left right", or since tokenizers 0.20 also ["left", "right"]. */
function mergeOf(
  files: Files,
  { name, field }: { name: string; field: string },
  merge: unknown,
): [string, string] {
  const parts: unknown[] = typeof merge === "string"
    ? merge.split(" ")
    : Array.isArray(merge)
    ? merge
    : [];
  const [left, right] = parts;
  if (parts.length !== 2 || typeof left !== "string" || typeof right !== "string") {
    return files.fail(name, `${field} is ${JSON.stringify(merge)}, expected two symbols`);
  }
  return [left, right];
}

/** The added tokens that are listed with their ids, which not every folder does. */
function listedTokens(
  files: Files,
  { config, whole }: { config: Json; whole: Json | undefined },
): AddedToken[] {
  const decoder = config["added_tokens_decoder"];
  if (isObject(decoder)) {
    return Object.entries(decoder).map(([id, token]) => addedToken(files, Number(id), token));
  }
  const list = whole?.["added_tokens"];
  if (!Array.isArray(list)) return [];
  return list.map((token) => addedToken(files, isObject(token) ? token["id"] : undefined, token));
}

/** A token named by its role, whose id is that of its text. */
function specialToken(
  files: Files,
  { vocab, named, key, fallback }: {
    vocab: ReadonlyMap<string, number>;
    named: Json;
    key: string;
    fallback: string;
  },
): AddedToken {
  const token = named[key] ?? fallback;
  const id = vocab.get(contentOfToken(token) ?? "");
  if (id === undefined) {
    return files.fail(CONFIG, `${key} is ${JSON.stringify(token)}, which the vocabulary lacks`);
  }
  return addedToken(files, id, token);
}

function addedToken(files: Files, id: unknown, token: unknown): AddedToken {
  const content = contentOfToken(token);
  if (!content) {
    return files.fail(CONFIG, `added token is ${JSON.stringify(token)}, expected one with content`);
  }
  const flags = isObject(token) ? token : {};
  for (const flag of ["lstrip", "rstrip", "single_word"]) {
    if (flags[flag] === true) {
      files.fail(CONFIG, `added token ${JSON.stringify(content)} has ${flag}, which is not known`);
    }
  }
  return {
    id: idFrom(files, CONFIG, { symbol: content, id }),
    content,
    normalized: flags["normalized"] === true,
  };
}

/** A special token is its text, or an object that holds it. */
function contentOfToken(token: unknown): string | undefined {
  const content = isObject(token) ? token["content"] : token;
  return typeof content === "string" ? content : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The files of one folder; errors name them. */
class Files {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = resolve(folder);
  }

  fail(name: string, detail: string): never {
    throw new TokenizerError(`Tokenizer file ${join(this.#folder, name)}: ${detail}`);
  }

  /** Adds the folder to errors of what has no files to name. */
  explain<T>(action: () => T): T {
    try {
      return action();
    } catch (cause) {
      if (!(cause instanceof TokenizerError)) throw cause;
      throw new TokenizerError(`Tokenizer folder ${this.#folder}: ${cause.message}`, { cause });
    }
  }

  optional(name: string): Json | undefined {
    return this.#exists(name) ? this.json(name) : undefined;
  }

  optionalText(name: string): string | undefined {
    return this.#exists(name) ? this.text(name) : undefined;
  }

  #exists(name: string): boolean {
    return statSync(join(this.#folder, name), { throwIfNoEntry: false }) !== undefined;
  }

  json(name: string): Json {
    let value: unknown;
    try {
      value = JSON.parse(this.text(name));
    } catch (cause) {
      if (cause instanceof TokenizerError) throw cause;
      return this.fail(name, "is not valid JSON");
    }
    return isObject(value) ? value : this.fail(name, "is not a JSON object");
  }

  text(name: string): string {
    const path = join(this.#folder, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile()) return this.fail(name, "does not exist");
    if (stat.size > MAX_FILE_BYTES) {
      return this.fail(name, `has ${stat.size} bytes, expected at most ${MAX_FILE_BYTES}`);
    }
    return readFileSync(path, "utf-8");
  }
}
