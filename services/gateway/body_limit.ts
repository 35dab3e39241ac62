import type { MiddlewareHandler } from "hono";
import { setImmediate as turn } from "node:timers/promises";
import { orSilence } from "../../base/mod.ts";
import { callerLeft } from "./caller.ts";
import { HttpError } from "./http_error.ts";

/** How slowly a body may come. */
export const SILENCE_MS = 20_000;
const BYTES_PER_MS = 2 ** 14 / 1000;

/** Bytes of bodies that are held at a time, over all requests. */
export class HeldBodies {
  readonly #max: number;
  #held = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Bytes held now. */
  get held(): number {
    return this.#held;
  }

  /** Counts bytes. Throws `HttpError` 503 where there are too many. */
  take(bytes: number): void {
    if (this.#held + bytes > this.#max) {
      const message = `The gateway holds ${this.#held} bytes of bodies, and ${this.#max} is all ` +
        "it takes; try again";
      throw new HttpError("RESOURCE_EXHAUSTED", message, { status: 503 });
    }
    this.#held += bytes;
  }

  /** They are not held any more. */
  give(bytes: number): void {
    this.#held -= bytes;
  }
}

/** So many pieces a body may come in whatever their size, and one more for each of these bytes. */
const [FREE_PIECES, PIECE_BYTES] = [1000, 256];
/** Others have their turn after so many. */
const TURN_PIECES = 32;

/**
 * Counts the pieces in which a body comes. Each takes as long and as much memory as a thousand bytes, and those that are
 * at hand are read one after another without a pause: a megabyte in as many pieces kept all others waiting for a minute.
 */
export class PieceCount {
  #pieces = 0;
  #bytes = 0;
  #unbroken = 0;

  /** Counts a piece, and lets others have their turn. Throws `HttpError` where there are too many for their bytes. */
  async add(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (++this.#pieces > FREE_PIECES + this.#bytes / PIECE_BYTES) {
      const message = `Body comes in pieces of ${(this.#bytes / this.#pieces).toFixed()} bytes, ` +
        `expected at least ${PIECE_BYTES} on average`;
      throw new HttpError("INVALID_ARGUMENT", message);
    }
    if (++this.#unbroken % TURN_PIECES === 0) await turn();
  }

  /** What follows is counted by itself. */
  restart(): void {
    [this.#pieces, this.#bytes] = [0, 0];
  }
}

/**
 * Reads a body before its route sees the request, as long as it is not larger than `maxBytes`, comes fast enough, and
 * fits beside the others that are held.
 */
export function bodyLimit(
  { maxBytes, held, silenceMs = SILENCE_MS }: {
    readonly maxBytes: number;
    readonly held: HeldBodies;
    readonly silenceMs?: number;
  },
): MiddlewareHandler {
  return async ({ req }, next) => {
    const { body, headers } = req.raw;
    if (body === null) return await next();
    const tooLarge = () =>
      new HttpError("RESOURCE_EXHAUSTED", `Body is larger than ${maxBytes} bytes`, { status: 413 });
    if (Number(headers.get("content-length") ?? 0) > maxBytes) throw tooLarge();
    let total = 0;
    const count = (bytes: number) => {
      if (total + bytes > maxBytes) throw tooLarge();
      held.take(bytes);
      total += bytes;
    };
    try {
      const bytes = await readSlowly(body, { count, silenceMs }).catch((error) => {
        throw error instanceof HttpError ? error : callerLeft(error);
      });
      const { method, signal } = req.raw;
      req.raw = new Request(req.url, { method, headers, body: bytes, signal });
      return await next();
    } finally {
      held.give(total);
    }
  };
}

async function readSlowly(
  body: ReadableStream<Uint8Array>,
  { count, silenceMs }: {
    readonly count: (bytes: number) => void;
    readonly silenceMs: number;
  },
): Promise<Blob> {
  const reader = body.getReader();
  const start = performance.now();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const pieces = new PieceCount();
  let total = 0;
  try {
    while (true) {
      const next = await inTime(reader.read(), { start, total, silenceMs });
      if (next.done) return new Blob(parts);
      count(next.value.length);
      await pieces.add(next.value.length);
      total += next.value.length;
      parts.push(new Uint8Array(next.value));
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    throw error;
  }
}

/** What comes next of a body of which `total` bytes have come since `start`. Throws `HttpError` 408 where it is too slow. */
export async function inTime<T>(
  next: Promise<T>,
  { start, total, silenceMs }: {
    /** By `performance.now()`. */
    readonly start: number;
    readonly total: number;
    readonly silenceMs: number;
  },
): Promise<T> {
  const left = start + silenceMs + total / BYTES_PER_MS - performance.now();
  const came = await orSilence(next, Math.max(0, Math.min(silenceMs, left)));
  if (came !== undefined) return came;
  throw new HttpError(
    "DEADLINE_EXCEEDED",
    `Body stood still for ${silenceMs / 1000} s, or came at less than ${
      1000 * BYTES_PER_MS
    } bytes a second`,
    { status: 408 },
  );
}
