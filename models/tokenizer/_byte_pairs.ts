import { TokenizerError } from "./tokenizer_error.ts";

const END_OF_WORD = "</w>";

/** Positions in a word are kept in the low bits of a queue entry, its rank above them. */
const MAX_WORD_BYTES = 2 ** 20;

/**
 * Byte-pair encoding of words: a word's UTF-8 bytes become symbols, and of all neighbouring pairs that have a merge the
 * one that comes first in the list, leftmost among equals, is joined until none is left.
 * Takes n log n time in the length of the word.
 */
export class BytePairs {
  /** Ids of the 256 bytes, then of the 256 bytes that end a word. */
  readonly #byteIds: Int32Array;
  readonly #ranks = new Map<number, number>();
  readonly #merged: Int32Array;
  readonly #idCount: number;

  /** Throws `TokenizerError` when the vocabulary lacks a byte's symbol or a merge's parts or result. */
  constructor(vocab: ReadonlyMap<string, number>, merges: readonly (readonly [string, string])[]) {
    const idOf = (symbol: string, where: string): number => {
      const id = vocab.get(symbol);
      if (id === undefined) {
        throw new TokenizerError(`Vocabulary lacks ${JSON.stringify(symbol)}, needed for ${where}`);
      }
      return id;
    };
    this.#idCount = [...vocab.values()].reduce((n, id) => Math.max(n, id + 1), 0);
    this.#byteIds = Int32Array.from({ length: 512 }, (_, i) => {
      const symbol = byteSymbol(i % 256) + (i < 256 ? "" : END_OF_WORD);
      return idOf(symbol, `byte ${i % 256}`);
    });
    this.#merged = Int32Array.from(merges, ([left, right], rank) => {
      const where = `merge ${rank + 1}`;
      this.#ranks.set(this.#pairKey(idOf(left, where), idOf(right, where)), rank);
      return idOf(left + right, where);
    });
  }

  /** Appends the ids of one word to `out`. `word` is its UTF-8 bytes, at least one and fewer than 2^20. */
  encode(word: Uint8Array, out: number[]): void {
    const length = word.length;
    if (length >= MAX_WORD_BYTES) throw new RangeError(`Word has ${length} bytes`);
    const ids = Int32Array.from(
      word,
      (byte, i) => this.#byteIds[byte + (i === length - 1 ? 256 : 0)] ?? -1,
    );
    // A linked list of the symbols left; a joined pair lives on at the position of its left part.
    const next = Int32Array.from(word, (_, i) => i + 1);
    const previous = Int32Array.from(word, (_, i) => i - 1);
    const queue = new MinQueue();
    const enqueue = (at: number) => {
      const rank = this.#rankAt(ids, next, at);
      if (rank !== undefined) queue.push(rank * MAX_WORD_BYTES + at);
    };
    for (let at = 0; at < length - 1; at++) enqueue(at);
    for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
      const at = entry % MAX_WORD_BYTES;
      const rank = Math.floor(entry / MAX_WORD_BYTES);
      // The pair may have changed, or its left part been joined to what stood before, since it was queued.
      if (ids[at] === -1 || this.#rankAt(ids, next, at) !== rank) continue;
      const right = next[at] ?? length;
      const after = next[right] ?? length;
      ids[at] = this.#merged[rank] ?? -1;
      ids[right] = -1;
      next[at] = after;
      if (after < length) previous[after] = at;
      const before = previous[at] ?? -1;
      if (before >= 0) enqueue(before);
      enqueue(at);
    }
    for (let at = 0; at < length; at = next[at] ?? length) out.push(ids[at] ?? -1);
  }

  #rankAt(ids: Int32Array, next: Int32Array, at: number): number | undefined {
    const left = ids[at];
    const right = ids[next[at] ?? -1];
    if (left === undefined || right === undefined) return undefined;
    return this.#ranks.get(this.#pairKey(left, right));
  }

  #pairKey(left: number, right: number): number {
    return left * this.#idCount + right;
  }
}

/**
 * The printable character that stands for a byte in vocabularies of this family: itself where Latin-1 prints it, else
 * the next unused character from U+0100 on.
 */
function byteSymbol(byte: number): string {
  const isPrinted = (b: number) =>
    b >= 0x21 && b <= 0xff && !(b >= 0x7f && b <= 0xa0) && b !== 0xad;
  if (isPrinted(byte)) return String.fromCharCode(byte);
  let code = 0x100;
  for (let b = 0; b < byte; b++) if (!isPrinted(b)) code++;
  return String.fromCharCode(code);
}

/** A binary heap of numbers, smallest first. */
class MinQueue {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] ?? value;
      if (above <= value) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const smallest = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return smallest;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if ((heap[child + 1] ?? Infinity) < (heap[child] ?? Infinity)) child++;
      const below = heap[child] ?? Infinity;
      if (below >= last) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return smallest;
  }
}
