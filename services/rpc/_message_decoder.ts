import { Buffer } from "node:buffer";
import { ArrivingMessage, SMALL_BYTES } from "./_arriving_message.ts";

/** Before each message: whether it is compressed, and its length. */
export const HEAD_BYTES = 5;

/** What a decoder asks of whoever looks after memory. Small messages are not counted. */
export interface MessageRoom {
  /** Whether a large message of this length may come now; if not, `onRoom` is called when it may. */
  reserve(bytes: number, onRoom: () => void): boolean;
  /** Counts bytes of a large message that have come. Throws where there are too many. */
  hold(bytes: number): void;
}

/**
 * Joins the data of a stream to messages, each with its head. The gRPC library's own copies the whole at the end, which
 * takes tens of milliseconds for large images; here each piece is copied when it comes.
 */
export class MessageDecoder {
  readonly #maxBytes: number;
  readonly #room: MessageRoom | undefined;
  readonly #onRoom: () => void;
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headAt = 0;
  #message: ArrivingMessage | undefined;
  /** Data that came while there was no room for the message it belongs to. */
  #rest: Buffer[] | undefined;

  /**
   * @param maxBytes of a message without its head; -1: any
   * @param room default: there is always room
   * @param onRoom called when there is room for a message that had to wait; `takeRest` is to be written then
   */
  constructor(
    maxBytes: number,
    { room, onRoom = () => {} }: { readonly room?: MessageRoom; readonly onRoom?: () => void } = {},
  ) {
    this.#maxBytes = maxBytes;
    this.#room = room;
    this.#onRoom = onRoom;
  }

  /** Whether a message has begun to come and is not complete. */
  get isWithin(): boolean {
    return this.#headAt > 0;
  }

  /** Whether there is no room yet for the message that comes. */
  get isWaiting(): boolean {
    return this.#rest !== undefined;
  }

  /** Takes what came while there was no room. */
  takeRest(): Buffer {
    const rest = Buffer.concat(this.#rest ?? []);
    this.#rest = undefined;
    return rest;
  }

  /** Takes data; answers the messages that it completes. Throws where one is too large, or memory is short. */
  write(data: Buffer): Buffer[] {
    if (this.#rest) {
      this.#rest.push(data);
      return [];
    }
    const complete: Buffer[] = [];
    while (data.length > 0) {
      if (this.#message === undefined) {
        const taken = data.copy(this.#head, this.#headAt);
        this.#headAt += taken;
        data = data.subarray(taken);
        if (this.#headAt < HEAD_BYTES) break;
        this.#message = new ArrivingMessage(HEAD_BYTES + this.#announced());
        this.#message.take(this.#head);
        const { length } = this.#message;
        if (length > SMALL_BYTES && this.#room && !this.#room.reserve(length, this.#onRoom)) {
          this.#rest = [data];
          break;
        }
      }
      const before = data.length;
      data = this.#message.take(data);
      if (this.#message.length > SMALL_BYTES) this.#room?.hold(before - data.length);
      if (this.#message.complete) {
        complete.push(this.#message.complete);
        this.#message = undefined;
        this.#headAt = 0;
      }
    }
    return complete;
  }

  /** The length that the head says. */
  #announced(): number {
    const length = this.#head.readUInt32BE(1);
    if (this.#maxBytes === -1 || length <= this.#maxBytes) return length;
    throw new Error(`Received message larger than max (${length} vs ${this.#maxBytes})`);
  }
}
