import { Buffer } from "node:buffer";

/** Up to this length a message gets its memory at once. */
export const SMALL_BYTES = 2 ** 16;

/**
 * A message whose length is known and whose bytes are coming. The length is only a claim: the memory of a large message
 * is asked for when half of it is there. What has come by then lies in segments, which are copied over beside the second
 * half, as much at a time as comes, so that nobody waits for one large copy.
 */
export class ArrivingMessage {
  readonly length: number;
  /** Bytes there are. */
  #at = 0;
  #whole: Buffer | undefined;
  readonly #segments: Buffer[] = [];
  /** Bytes of the segments, and how many of them have been copied over. */
  #kept = 0;
  #moved = 0;

  constructor(length: number) {
    this.length = length;
  }

  /** The message, once all of it is there. */
  get complete(): Buffer | undefined {
    return this.#at === this.length ? this.#whole : undefined;
  }

  /** Takes what belongs to this message; answers what comes after it. */
  take(data: Buffer): Buffer {
    const own = data.subarray(0, this.length - this.#at);
    const begins = this.length <= SMALL_BYTES || this.#at + own.length > this.length / 2;
    if (begins) this.#whole ??= memory(this.length);
    if (this.#whole) own.copy(this.#whole, this.#at);
    else this.#keep(own);
    this.#at += own.length;
    if (this.#whole) this.#move(this.#whole, this.#at === this.length ? Infinity : own.length);
    return data.subarray(own.length);
  }

  #keep(piece: Buffer): void {
    for (let from = 0; from < piece.length;) {
      const at = this.#kept % SMALL_BYTES;
      if (at === 0) this.#segments.push(memory(SMALL_BYTES));
      const taken = piece.copy(this.#segments.at(-1) ?? piece, at, from);
      from += taken;
      this.#kept += taken;
    }
  }

  /** Copies segments over, at least this many bytes if there are. */
  #move(whole: Buffer, bytes: number): void {
    for (let left = bytes; left > 0; left -= SMALL_BYTES) {
      const segment = this.#segments.shift();
      if (segment === undefined) return;
      segment.copy(whole, this.#moved, 0, Math.min(SMALL_BYTES, this.#kept - this.#moved));
      this.#moved += segment.length;
    }
  }
}

/** Not from the pool of `Buffer`: bytes fields are views of it that may live long. */
function memory(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes));
}
