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
/** Connections over TLS that are reset one after the other, until that is taken for a refusal. */
const MOST_RESETS = 3;

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
  let resets = 0;
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
      // The word that refuses a certificate is lost where the reset of the connection overtakes it.
      resets = tls && /ECONNRESET|disconnected/.test(reason) ? resets + 1 : 0;
      if (resets === MOST_RESETS) {
        const why = "resets every connection, as where it refuses a certificate or asks for one";
        throw new Error(`Cannot connect to ${where}: it ${why}`, { cause });
      }
      if (!isAway(reason)) throw new Error(`Cannot connect to ${where}: ${reason}`, { cause });
      if (tries === 0) log.warn(`Waits for ${where}: ${reason}`);
      await new Promise((wait) => setTimeout(wait, RECONNECT_MS));
    }
  }
}

/** Attempts that have not ended. */
const attempts = new Set<(fault: unknown) => void>();
let isListening = false;

/**
 * Connects. A server that does not take the certificate says so when the handshake is over for the client, in a moment in
 * which the package listens to no error of the connection; it may also reset a connection that the package has given up.
 * Such an error would end the process, however late it comes.
 */
async function connectOrAlert(options: ConnectionOptions): Promise<NatsConnection> {
  if (!isListening) globalThis.addEventListener("error", endAttempts);
  isListening = true;
  const alerted = Promise.withResolvers<never>();
  attempts.add(alerted.reject);
  try {
    return await Promise.race([connect(options), alerted.promise]);
  } finally {
    attempts.delete(alerted.reject);
  }
}

function endAttempts(event: ErrorEvent): void {
  if (!/fatal alert|ECONNRESET/.test(String(event.error))) return;
  event.preventDefault();
  for (const end of attempts) end(event.error);
}

/** Whether it may be there later: a server that starts, or a name that is not known yet. */
function isAway(reason: string): boolean {
  return /refused|timeout|ENOTFOUND|EAI_AGAIN|ECONNRESET|getaddrinfo|closed|disconnected/i.test(
    reason,
  );
}
