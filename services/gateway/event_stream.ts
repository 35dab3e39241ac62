import type { JsonValue } from "@bufbuild/protobuf";
import { type Logger, orSilence } from "../../base/mod.ts";
import { toHttpError } from "./http_error.ts";

/** One server-sent event. */
export interface ServerEvent {
  readonly event: string;
  readonly data: JsonValue;
  /** What a client that connects again sends as Last-Event-ID. */
  readonly id?: string;
}

/** Silence is broken this often, so that proxies keep the connection and a dead one is noticed. */
const KEEP_ALIVE_MS = 15_000;

/**
 * Answers with server-sent events, read from their source only as fast as the client takes them. A failure is an event
 * named "error" with the body other routes answer errors with; else the last one is named "end".
 */
export function eventStream(
  events: AsyncIterable<ServerEvent>,
  { log, onEnd, keepAliveMs = KEEP_ALIVE_MS }: {
    readonly log: Logger;
    /** Called once, when the stream has ended or the client has gone. */
    readonly onEnd?: () => void;
    readonly keepAliveMs?: number;
  },
): Response {
  const encoder = new TextEncoder();
  const iterator = events[Symbol.asyncIterator]();
  let next: Promise<IteratorResult<ServerEvent>> | undefined;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const write = (text: string) => controller.enqueue(encoder.encode(text));
      const finish = (event: string, data: unknown) => {
        write(format(event, data));
        controller.close();
        onEnd?.();
      };
      try {
        next ??= iterator.next();
        const result = await orSilence(next, keepAliveMs);
        if (result === undefined) return write(": still here\n\n");
        next = undefined;
        if (result.done) return finish("end", {});
        const { event, data, id } = result.value;
        write(`${id === undefined ? "" : `id: ${id}\n`}${format(event, data)}`);
      } catch (error) {
        finish("error", toHttpError(error, log, { at: "stream" }));
      }
    },
    async cancel() {
      onEnd?.();
      await iterator.return?.();
    },
  }, { highWaterMark: 1 });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      // nginx would hold events back otherwise.
      "x-accel-buffering": "no",
    },
  });
}

function format(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
