import {
  connect,
  type ConnectionOptions,
  errors,
  type NatsConnection,
} from "@nats-io/transport-node";
import type { Logger } from "../../base/mod.ts";
import type { NatsOptions } from "../launch/mod.ts";

/** Between two tries to reach a server that is away, in milliseconds. */
const RECONNECT_MS = 250;

/**
 * Connects to NATS, as soon as a server is there. Once connected it comes back by itself whenever a server does. Throws an
 * `Error` where the servers refuse the connection.
 *
 * @param name how this client is called in NATS' own reports
 */
export async function connectNats(
  { servers, token, tls }: NatsOptions,
  { name, log }: { readonly name: string; readonly log: Logger },
): Promise<NatsConnection> {
  const where = `NATS at ${servers.join(", ")}`;
  for (let tries = 0;; tries++) {
    try {
      return await connectOrAlert({
        name,
        servers: [...servers],
        timeout: 5_000,
        maxReconnectAttempts: -1,
        reconnectTimeWait: RECONNECT_MS,
        // A server that is restarted with another token is a fault to wait out, like one that is away.
        ignoreAuthErrorAbort: true,
        pingInterval: 5_000,
        ...(token !== undefined && { token }),
        ...(tls && { tls: { ...tls } }),
      });
    } catch (cause) {
      if (cause instanceof errors.AuthorizationError) {
        const why = token === undefined ? "asks for a token or certificate" : "refuses the token";
        throw new Error(`${where} ${why}`, { cause });
      }
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (!isAway(reason)) throw new Error(`Cannot connect to ${where}: ${reason}`, { cause });
      if (tries === 0) log.warn(`Waits for ${where}: ${reason}`);
      await new Promise((wait) => setTimeout(wait, RECONNECT_MS));
    }
  }
}

/**
 * Connects. A server that does not take the certificate says so when the handshake is over for the client, in a moment in
 * which the package listens to no error of the connection: such an error would end the process.
 */
async function connectOrAlert(options: ConnectionOptions): Promise<NatsConnection> {
  const alerted = Promise.withResolvers<never>();
  const listener = (event: ErrorEvent) => {
    if (!/fatal alert/.test(String(event.error))) return;
    event.preventDefault();
    alerted.reject(event.error);
  };
  globalThis.addEventListener("error", listener);
  try {
    return await Promise.race([connect(options), alerted.promise]);
  } finally {
    globalThis.removeEventListener("error", listener);
  }
}

/** Whether it may be there later: a server that starts, or a name that is not known yet. */
function isAway(reason: string): boolean {
  return /refused|timeout|ENOTFOUND|EAI_AGAIN|ECONNRESET|getaddrinfo|closed/i.test(reason);
}
