import { Buffer } from "node:buffer";

/** Before each message: whether it is compressed, and its length. */
export const HEAD_BYTES = 5;

/**
 * Joins the data of a stream to messages, each with its head. The gRPC library's own does the same by one copy of the
 * whole at the end, which takes tens of milliseconds for large images; here each piece is copied when it comes.
 */
export class MessageDecoder {
  readonly #maxBytes: number;
  readonly #head = Buffer.alloc(HEAD_BYTES);
  /** The message that is coming, once its length is known. */
  #message: Buffer | undefined;
  /** Bytes there are of the head, then of the message. */
  #at = 0;

  /** @param maxBytes of a message without its head; -1: any */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes data; answers the messages that it completes. Throws where a message is too large. */
  write(data: Buffer): Buffer[] {
    const complete: Buffer[] = [];
    while (data.length > 0) {
      const taken = data.copy(this.#message ?? this.#head, this.#at);
      data = data.subarray(taken);
      this.#at += taken;
      if (!this.#message && this.#at === HEAD_BYTES) this.#message = this.#begin();
      if (this.#message && this.#at === this.#message.length) {
        complete.push(this.#message);
        this.#message = undefined;
        this.#at = 0;
      }
    }
    return complete;
  }

  #begin(): Buffer {
    const length = this.#head.readUInt32BE(1);
    if (this.#maxBytes !== -1 && length > this.#maxBytes) {
      throw new Error(`Received message larger than max (${length} vs ${this.#maxBytes})`);
    }
    // Memory that nothing has been written to is not there yet: a length that lies costs nothing.
    const message = Buffer.from(new ArrayBuffer(HEAD_BYTES + length));
    this.#head.copy(message);
    return message;
  }
}
