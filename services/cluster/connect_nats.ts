import { connect, errors, type NatsConnection } from "@nats-io/transport-node";
import type { NatsOptions } from "../launch/mod.ts";

/** Between two tries to reach a server that is away, in milliseconds. */
const RECONNECT_MS = 250;

/**
 * Connects to NATS. Once connected it comes back by itself whenever a server does. Throws an `Error` that says why the
 * first connection cannot be made.
 *
 * @param name how this client is called in NATS' own reports
 */
export async function connectNats(
  { servers, token, tls }: NatsOptions,
  name: string,
): Promise<NatsConnection> {
  try {
    return await connect({
      name,
      servers: [...servers],
      timeout: 10_000,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_MS,
      // A server that is restarted with another token is a fault to wait out, like one that is away.
      ignoreAuthErrorAbort: true,
      pingInterval: 5_000,
      ...(token !== undefined && { token }),
      ...(tls && { tls: { ...tls } }),
    });
  } catch (cause) {
    throw new Error(`Cannot connect to NATS at ${servers.join(", ")}: ${reasonOf(cause, token)}`, {
      cause,
    });
  }
}

function reasonOf(cause: unknown, token: string | undefined): string {
  if (cause instanceof errors.AuthorizationError) {
    return token === undefined ? "it asks for a token or certificate" : "it refuses the token";
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return /refused/i.test(reason) ? "nothing listens there" : reason;
}
