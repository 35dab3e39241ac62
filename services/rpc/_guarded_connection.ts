import type { Socket } from "node:net";

/** A connection as its server's guard sees it, with its calls. */
export class GuardedConnection<Call> {
  readonly calls = new Set<Call>();
  /** Bytes that its calls hold. */
  held = 0;
  /** Whether its peer has spoken HTTP/2. */
  isGreeted = false;
  /** Milliseconds of `performance.now()` since which it has no call. */
  idleSince = performance.now();
  readonly #socket: Socket;
  readonly #share: number;
  #reserved = 0;
  readonly #queue: { readonly bytes: number; readonly onRoom: () => void }[] = [];

  /** @param share bytes of large requests that it may send at a time */
  constructor(socket: Socket, share: number) {
    this.#socket = socket;
    this.#share = share;
  }

  /** Sets room aside, or keeps the place in the queue; a request larger than the share is alone. */
  reserve(bytes: number, onRoom: () => void): boolean {
    if (this.#queue.length === 0 && this.#hasRoom(bytes)) {
      this.#reserved += bytes;
      return true;
    }
    this.#queue.push({ bytes, onRoom });
    return false;
  }

  /** Gives room back, to those who wait for it. */
  release(bytes: number): void {
    this.#reserved -= bytes;
    for (let next; (next = this.#queue[0]) && this.#hasRoom(next.bytes);) {
      this.#queue.shift();
      this.#reserved += next.bytes;
      next.onRoom();
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#reserved === 0 || this.#reserved + bytes <= this.#share;
  }

  /** Closes it at once. */
  close(): void {
    this.#socket.destroy();
  }
}
