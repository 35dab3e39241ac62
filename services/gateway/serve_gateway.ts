import { getRequestListener } from "@hono/node-server";
import { createServer, type Server } from "node:http";
import { createLogger, listenHost, type Logger, orSilence } from "../../base/mod.ts";
import { usualConnections } from "../rpc/mod.ts";
import { createGateway, type GatewayOptions } from "./gateway.ts";
import { type HttpTimes, limitConnections } from "./http_connections.ts";

/** A gateway that listens. */
export interface GatewayServer {
  /** "host:port" with the port in use. */
  readonly address: string;
  /** Refuses new requests, ends streams, gives the others `drainSeconds`. Safe to call twice. */
  stop(options?: { readonly drainSeconds?: number }): Promise<void>;
}

/**
 * Starts a gateway. Throws an `Error` that says what is wrong with the address or a folder.
 *
 * @param host address to listen on
 * @param port 0 takes a free port
 */
export async function serveGateway(
  {
    host: givenHost = "127.0.0.1",
    port,
    maxConnections = usualConnections(),
    times = { headersMs: 20_000, idleMs: 60_000 },
    ...options
  }: Omit<GatewayOptions, "loopback"> & {
    readonly host?: string;
    readonly port: number;
    /** Default: a quarter of the files that this process may open. */
    readonly maxConnections?: number;
    readonly times?: HttpTimes;
  },
): Promise<GatewayServer> {
  const log = options.log ?? createLogger();
  const host = listenHost(givenHost);
  const loopback = /^(?:localhost|127\..*|::1)$/.test(host);
  if (!loopback && options.token === undefined) {
    log.warn("Anybody who reaches this address may start and delete runs: set a token", { host });
  }
  if (options.runs !== undefined) await checkFolder(options.runs, log);
  const gateway = await createGateway({ ...options, loopback, log });
  const server = createServer(
    {
      headersTimeout: times.headersMs,
      keepAliveTimeout: times.idleMs,
      // Bodies have a time of their own, by how fast they come.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(1000, times.headersMs),
    },
    getRequestListener(gateway.fetch, { hostname: "localhost", overrideGlobalObjects: false }),
  );
  limitConnections(server, maxConnections);
  let bound: number;
  try {
    bound = await listen(server, { host, port });
  } catch (cause) {
    gateway.close();
    throw new Error(
      `Cannot listen on ${host.includes(":") ? `[${host}]` : host}:${port}: ${reason(cause)}`,
      { cause },
    );
  }
  const drain = async (drainSeconds: number) => {
    gateway.stop();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    await orSilence(closed, drainSeconds * 1000);
    server.closeAllConnections();
    await closed;
    gateway.close();
  };
  let stopping: Promise<void> | undefined;
  return {
    address: `${host.includes(":") ? `[${host}]` : host}:${bound}`,
    stop: ({ drainSeconds = 30 } = {}) => stopping ??= drain(drainSeconds),
  };
}

/** The trainer may make its folder later; one that cannot be read will not get better by waiting. */
async function checkFolder(path: string, log: Logger): Promise<void> {
  try {
    for await (const _ of Deno.readDir(path)) break;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      log.warn("Folder of runs is not there yet: sample images will be when it is", { path });
      return;
    }
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Folder of runs ${path} cannot be read: ${what}`, { cause });
  }
}

async function listen(
  server: Server,
  address: { readonly host: string; readonly port: number },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(address, resolve);
  await promise;
  server.off("error", reject);
  // Such as one that found no file left for it; the next may find one.
  server.on("error", () => {});
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : address.port;
}

function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (text.includes("EADDRINUSE")) return "the port is in use";
  if (text.includes("EACCES")) return "the port needs more rights; choose one above 1023";
  if (text.includes("EADDRNOTAVAIL")) return "the address is not one of this machine's";
  return text;
}
