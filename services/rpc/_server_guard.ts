import type { Socket } from "node:net";
import { StatusError } from "./errors.ts";
import { type CallGuard, GuardedCall } from "./_guarded_call.ts";
import { GuardedConnection } from "./_guarded_connection.ts";
import type { ServerLimits } from "./server_limits.ts";

/** How often times are looked at. */
const SWEEP_MS = 500;
/** An answer that has not moved for this long makes way when memory is short. */
const STALLED_MS = 1000;

/**
 * Keeps strangers from taking a server to themselves: it counts connections, calls and bytes, ends those that keep it
 * waiting, and where there is no room for a newcomer, it takes from the connection that has the most.
 */
export class ServerGuard implements CallGuard {
  readonly #limits: ServerLimits;
  readonly #connections = new Map<string, GuardedConnection<GuardedCall>>();
  readonly #waiting = new Set<GuardedCall>();
  #calls = 0;
  #held = 0;
  #onEmpty = () => {};
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(limits: ServerLimits) {
    this.#limits = limits;
    this.#timer = setInterval(() => this.sweep(performance.now()), SWEEP_MS);
    Deno.unrefTimer(Number(this.#timer));
  }

  /** Bytes of large messages that are held now. */
  get held(): number {
    return this.#held;
  }

  /** Takes a connection in; false where there is no room, and it has been closed. */
  admit(socket: Socket): boolean {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    if (this.#connections.size >= this.#limits.maxConnections) {
      const idle = this.#idlest();
      if (idle === undefined) {
        socket.destroy();
        return false;
      }
      this.#forget(...idle);
      idle[1].close();
    }
    const connection = new GuardedConnection<GuardedCall>(
      socket,
      this.#limits.maxHeldBytesPerConnection,
    );
    this.#connections.set(peer, connection);
    socket.on("error", () => {});
    socket.once("close", () => this.#forget(peer, connection));
    return true;
  }

  /** The peer has spoken HTTP/2. */
  greet(peer: string): void {
    const connection = this.#connections.get(peer);
    if (connection) connection.isGreeted = true;
  }

  /**
   * Takes a call in. Throws `StatusError` RESOURCE_EXHAUSTED where there is no room.
   *
   * @param onShed told when the call has to end for others, or for its slowness
   */
  begin(peer: string, onShed: (why: StatusError) => void): GuardedCall {
    const connection = this.#connections.get(peer);
    if (connection === undefined) throw new StatusError("UNAVAILABLE", "The connection is closed");
    if (this.#calls >= this.#limits.maxCalls) {
      const why = `The server has ${this.#calls} calls in progress, which is all it takes`;
      this.#makeWay(connection, new StatusError("RESOURCE_EXHAUSTED", why));
    }
    const call = new GuardedCall(this, { connection, onShed });
    connection.calls.add(call);
    connection.isGreeted = true;
    this.#calls++;
    return call;
  }

  /** For `GuardedCall`. */
  waits(call: GuardedCall): void {
    this.#waiting.add(call);
  }

  /** For `GuardedCall`. */
  proceeds(call: GuardedCall): void {
    this.#waiting.delete(call);
  }

  /** For `GuardedCall`. */
  hold(call: GuardedCall, bytes: number): void {
    const { maxHeldBytes, maxHeldBytesPerConnection: share } = this.#limits;
    const why = new StatusError(
      "RESOURCE_EXHAUSTED",
      `The server holds ${this.#held} bytes of messages, and ${maxHeldBytes} is all it takes; try again`,
    );
    while (call.connection.held + bytes > share) {
      const stalled = this.#stalled(call.connection);
      if (stalled === undefined || stalled === call) break;
      stalled.shed(why);
    }
    while (this.#held + bytes > maxHeldBytes) {
      const largest = this.#largestWaiting();
      const least = call.connection.held + bytes;
      if (largest === undefined || largest.connection.held <= least) throw why;
      largest.shed(why);
    }
    this.#held += bytes;
  }

  /** For `GuardedCall`. */
  release(bytes: number): void {
    this.#held -= bytes;
  }

  /** For `GuardedCall`. */
  end(call: GuardedCall): void {
    const { connection } = call;
    if (!connection.calls.delete(call)) return;
    this.#calls--;
    if (connection.calls.size === 0) connection.idleSince = performance.now();
  }

  /** Ends what has kept the server waiting for too long, by now in milliseconds of `performance.now()`. */
  sweep(now: number): void {
    const { handshakeSeconds, idleSeconds, silenceSeconds, minBytesPerSecond } = this.#limits;
    const pace = { silenceMs: 1000 * silenceSeconds, bytesPerMs: minBytesPerSecond / 1000 };
    for (const call of this.#waiting) {
      if (!call.isLate(now, pace)) continue;
      call.shed(
        new StatusError(
          "DEADLINE_EXCEEDED",
          `The caller stood still for ${silenceSeconds} s, or sent less than ${minBytesPerSecond} bytes a second`,
        ),
      );
    }
    for (const [peer, connection] of this.#connections) {
      const seconds = connection.isGreeted ? idleSeconds : handshakeSeconds;
      if (connection.calls.size > 0 || now <= connection.idleSince + 1000 * seconds) continue;
      this.#forget(peer, connection);
      connection.close();
    }
  }

  /** Resolves when no connection is left. */
  empty(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    if (this.#connections.size === 0) resolve();
    return promise;
  }

  /** Closes all connections. */
  close(): void {
    clearInterval(this.#timer);
    for (const [peer, connection] of this.#connections) {
      this.#forget(peer, connection);
      connection.close();
    }
  }

  #forget(peer: string, connection: GuardedConnection<GuardedCall>): void {
    if (this.#connections.get(peer) === connection) this.#connections.delete(peer);
    for (const call of connection.calls) call.end();
    if (this.#connections.size === 0) this.#onEmpty();
  }

  /** The connection that has been without a call for longest; those that have not spoken yet come first. */
  #idlest(): readonly [string, GuardedConnection<GuardedCall>] | undefined {
    const idle = [...this.#connections].filter(([, { calls }]) => calls.size === 0);
    idle.sort(([, a], [, b]) =>
      Number(a.isGreeted) - Number(b.isGreeted) || a.idleSince - b.idleSince
    );
    return idle[0];
  }

  /** Sheds a call of the connection that has the most; throws `why` where that is the one that asks. */
  #makeWay(asking: GuardedConnection<GuardedCall>, why: StatusError): void {
    let most = asking;
    for (const connection of this.#connections.values()) {
      if (connection.calls.size > most.calls.size) most = connection;
    }
    const [oldest] = most.calls;
    if (most.calls.size <= asking.calls.size + 1 || oldest === undefined) throw why;
    oldest.shed(why);
  }

  /** Of the connection whose waiting calls hold the most bytes, the one that has stood still for longest. */
  #largestWaiting(): GuardedCall | undefined {
    const bytes = new Map<GuardedConnection<GuardedCall>, number>();
    for (const { connection, held } of this.#waiting) {
      bytes.set(connection, (bytes.get(connection) ?? 0) + held);
    }
    const [largest] = [...bytes].sort(([, a], [, b]) => b - a);
    if (largest === undefined) return undefined;
    return stillest(
      [...this.#waiting].filter((call) => call.connection === largest[0] && call.held > 0),
    );
  }

  /** A call of a connection that holds bytes which its caller does not move. */
  #stalled(connection: GuardedConnection<GuardedCall>): GuardedCall | undefined {
    const before = performance.now() - STALLED_MS;
    return stillest(
      [...connection.calls].filter((call) =>
        call.held > 0 && (call.stillSince ?? Infinity) < before
      ),
    );
  }
}

function stillest(calls: readonly GuardedCall[]): GuardedCall | undefined {
  return calls.toSorted((a, b) => (a.stillSince ?? 0) - (b.stillSince ?? 0))[0];
}
