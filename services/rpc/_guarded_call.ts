import type { GuardedConnection } from "./_guarded_connection.ts";
import type { StatusError } from "./errors.ts";

/** Whom a call tells of itself: its server's guard. */
export interface CallGuard {
  /** The next move is the caller's. */
  waits(call: GuardedCall): void;
  /** The next move is the server's. */
  proceeds(call: GuardedCall): void;
  /** The call holds so many bytes more. */
  hold(call: GuardedCall, bytes: number): void;
  /** The call holds so many bytes less. */
  release(bytes: number): void;
  end(call: GuardedCall): void;
}

/** A call as its server's guard sees it: what it holds, and whether the next move is its caller's. */
export class GuardedCall {
  readonly connection: GuardedConnection<GuardedCall>;
  readonly #guard: CallGuard;
  readonly #onShed: (why: StatusError) => void;
  #reserved = 0;
  #held = 0;
  #hasEnded = false;
  /** Set while the next move is the caller's: when that began, when bytes last moved, and how many did. */
  #waiting: { readonly since: number; last: number; bytes: number } | undefined;

  constructor(
    guard: CallGuard,
    { connection, onShed }: {
      readonly connection: GuardedConnection<GuardedCall>;
      readonly onShed: (why: StatusError) => void;
    },
  ) {
    this.#guard = guard;
    this.connection = connection;
    this.#onShed = onShed;
  }

  /** Bytes of large messages that have come or wait to be taken. */
  get held(): number {
    return this.#held;
  }

  /** Milliseconds of `performance.now()` at which bytes last moved; undefined while the next move is the server's. */
  get stillSince(): number | undefined {
    return this.#waiting?.last;
  }

  /** The next move is the caller's, from now on. */
  waits(): void {
    if (this.#hasEnded) return;
    const now = performance.now();
    this.#waiting ??= { since: now, last: now, bytes: 0 };
    this.#guard.waits(this);
  }

  /** The caller has sent or taken this many bytes. */
  moved(bytes: number): void {
    if (this.#waiting === undefined) return;
    this.#waiting.last = performance.now();
    this.#waiting.bytes += bytes;
  }

  /** The next move is the server's. */
  proceeds(): void {
    this.#waiting = undefined;
    this.#guard.proceeds(this);
  }

  /** Whether the caller has been too slow by now, in milliseconds of `performance.now()`. */
  isLate(now: number, { silenceMs, bytesPerMs }: {
    readonly silenceMs: number;
    readonly bytesPerMs: number;
  }): boolean {
    if (this.#waiting === undefined) return false;
    const { since, last, bytes } = this.#waiting;
    return now > Math.min(last + silenceMs, since + silenceMs + bytes / bytesPerMs);
  }

  /**
   * Sets room aside for a request of this length within the connection's share. Answers whether there is; otherwise
   * `onRoom` is called when there is.
   */
  reserve(bytes: number, onRoom: () => void): boolean {
    const hasRoom = this.connection.reserve(bytes, () => {
      if (this.#hasEnded) this.connection.release(bytes);
      else {
        this.#reserved += bytes;
        onRoom();
      }
    });
    if (hasRoom) this.#reserved += bytes;
    return hasRoom;
  }

  /** Counts bytes that are held. Throws `StatusError` RESOURCE_EXHAUSTED where the server holds too many. */
  hold(bytes: number): void {
    if (this.#hasEnded) return;
    this.#guard.hold(this, bytes);
    this.#held += bytes;
    this.connection.held += bytes;
  }

  /** These bytes are not held any more. */
  release(bytes: number): void {
    const held = Math.min(bytes, this.#held);
    this.#held -= held;
    this.connection.held -= held;
    this.#guard.release(held);
  }

  /** A request for which room was set aside is done with. */
  unreserve(bytes: number): void {
    const reserved = Math.min(bytes, this.#reserved);
    this.#reserved -= reserved;
    if (reserved > 0) this.connection.release(reserved);
  }

  /** Ends the call for the sake of others, or of time. */
  shed(why: StatusError): void {
    if (this.#hasEnded) return;
    this.end();
    this.#onShed(why);
  }

  /** The call is over; everything is released. Safe to call twice. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.proceeds();
    this.release(this.#held);
    this.unreserve(this.#reserved);
    this.#guard.end(this);
  }
}
