import { ApiError, events, type StreamEvent } from "./api.ts";

/** How the connection of a stream is; "away" while nobody looks. */
export type Connection = "open" | "away" | "lost" | "ended";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/**
 * Follows a stream of events for as long as somebody looks, connecting again when the connection is lost. A tab that is
 * hidden gives its connection back: a browser has six to a server, all tabs together.
 *
 * @param path asked for at each connection, so that it may say where to go on
 */
export async function follow(
  path: () => string,
  { onEvent, onConnection, signal }: {
    readonly onEvent: (event: StreamEvent) => void;
    readonly onConnection: (connection: Connection, error?: Error) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  for (let wait = FIRST_WAIT_MS; !signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    await seen(signal);
    let open = false;
    const looking = new AbortController();
    const leave = () => document.hidden && looking.abort();
    document.addEventListener("visibilitychange", leave, { signal: looking.signal });
    try {
      for await (
        const event of events(path(), { signal: AbortSignal.any([signal, looking.signal]) })
      ) {
        if (!open) onConnection("open");
        [open, wait] = [true, FIRST_WAIT_MS];
        onEvent(event);
      }
      return onConnection("ended");
    } catch (error) {
      if (signal.aborted) return;
      if (looking.signal.aborted) {
        onConnection("away");
        wait = FIRST_WAIT_MS / 2;
        continue;
      }
      const failure = error instanceof Error ? error : new Error(String(error));
      onConnection("lost", failure);
      // The server understood and refused: asking again would change nothing.
      const refused = failure instanceof ApiError && failure.status >= 400 && failure.status < 500;
      if (refused && failure.status !== 429) return;
    } finally {
      looking.abort();
    }
    // All pages that lost the same server must not come back at once.
    await sleep(wait * (0.5 + Math.random()), signal);
  }
}

/** Waits until the page is looked at. */
async function seen(signal: AbortSignal): Promise<void> {
  while (document.hidden && !signal.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>();
    document.addEventListener("visibilitychange", () => resolve(), { once: true });
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
  }
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
}
