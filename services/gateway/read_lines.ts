import { type HeldBodies, inTime, PieceCount, SILENCE_MS } from "./body_limit.ts";
import { callerLeft } from "./caller.ts";
import { HttpError } from "./http_error.ts";

/** Lines without anything on them that may follow one another. */
const MAX_EMPTY = 1000;

/**
 * Reads a body's lines as they come; empty ones are passed over. Before a line there is as much time as its sender wants;
 * once it has begun it must come as fast as other bodies, and it is counted with them until the next is asked for. Throws
 * `HttpError`, 413 for a line of more than `maxBytes`.
 */
export async function* readLines(
  body: ReadableStream<Uint8Array> | null,
  { maxBytes, held, silenceMs = SILENCE_MS }: {
    readonly maxBytes: number;
    readonly held: HeldBodies;
    readonly silenceMs?: number;
  },
): AsyncIterable<{ readonly text: string; readonly line: number }> {
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const pieces = new PieceCount();
  let parts: Uint8Array[] = [];
  let [size, start, line, empty] = [0, 0, 0, 0];
  const keep = (part: Uint8Array) => {
    if (size + part.length > maxBytes) {
      const message = `A line is longer than ${maxBytes} bytes`;
      throw new HttpError("RESOURCE_EXHAUSTED", message, { status: 413 });
    }
    if (size === 0) start = performance.now();
    held.take(part.length);
    size += part.length;
    parts.push(part);
  };
  /** The line that has come; undefined for an empty one. */
  const take = () => {
    line++;
    const text = parts.map((part) => decoder.decode(part, { stream: true })).join("") +
      decoder.decode();
    parts = [];
    pieces.restart();
    if (text.trim() !== "") {
      empty = 0;
      return { text, line };
    }
    if (++empty <= MAX_EMPTY) return undefined;
    throw new HttpError("INVALID_ARGUMENT", `Line ${line}: More than ${MAX_EMPTY} empty lines`, {
      line,
    });
  };
  const drop = () => {
    held.give(size);
    size = 0;
  };
  try {
    while (true) {
      const coming = reader.read().catch((error) => {
        throw callerLeft(error);
      });
      const next = size === 0
        ? await coming
        : await inTime(coming, { start, total: size, silenceMs });
      if (next.done) break;
      await pieces.add(next.value.length);
      let from = 0;
      for (let end; (end = next.value.indexOf(NEWLINE, from)) >= 0; from = end + 1) {
        keep(next.value.subarray(from, end));
        const taken = take();
        if (taken) yield taken;
        drop();
      }
      if (from < next.value.length) keep(next.value.subarray(from));
    }
    const taken = size > 0 ? take() : undefined;
    if (taken) yield taken;
  } finally {
    drop();
    void reader.cancel().catch(() => {});
  }
}

const NEWLINE = 10;
