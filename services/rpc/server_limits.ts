/** What callers may take of a server together, and how long it waits for one of them. */
export interface ServerLimits {
  /** Connections. At the limit the one that has been idle longest makes way for a new one. */
  readonly maxConnections: number;
  /** Calls in progress over all connections. At the limit the connection with the most calls gives one up. */
  readonly maxCalls: number;
  /** Calls in progress of one connection; HTTP/2's SETTINGS_MAX_CONCURRENT_STREAMS. */
  readonly maxCallsPerConnection: number;
  /** Bytes of large requests and answers that are held at a time. More is refused with RESOURCE_EXHAUSTED. */
  readonly maxHeldBytes: number;
  /** The same of one connection: its next large request waits to be read until there is room for all of it. */
  readonly maxHeldBytesPerConnection: number;
  /** How long a connection may take to speak HTTP/2, certificates included. */
  readonly handshakeSeconds: number;
  /** How long a connection may be without a call. */
  readonly idleSeconds: number;
  /** How long a request may stand still while it is sent, and a large answer while nobody takes it. */
  readonly silenceSeconds: number;
  /** Bytes a second at which a request must come on average, once `silenceSeconds` are over. */
  readonly minBytesPerSecond: number;
}

/** The limits of a server, by what is usual; of its memory, by its largest message. */
export function serverLimits(
  maxMessageBytes: number,
  own: Partial<ServerLimits> = {},
): ServerLimits {
  return {
    maxConnections: usualConnections(),
    maxCalls: 1024,
    maxCallsPerConnection: 256,
    maxHeldBytes: 8 * maxMessageBytes,
    maxHeldBytesPerConnection: 4 * maxMessageBytes,
    handshakeSeconds: 20,
    idleSeconds: 600,
    silenceSeconds: 20,
    minBytesPerSecond: 2 ** 14,
    ...own,
  };
}

/**
 * A quarter of the files that this process may open, where the system tells, so that files of runs and models can always
 * be opened; 1,024 at most.
 */
export function usualConnections(): number {
  try {
    const limits = Deno.readTextFileSync("/proc/self/limits");
    const files = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? UNTOLD_FILES);
    return Math.max(16, Math.min(1024, Math.floor(files / 4)));
  } catch {
    return UNTOLD_FILES / 4;
  }
}

/** What a process may open at least on the systems there are: macOS gives 256. */
const UNTOLD_FILES = 256;
