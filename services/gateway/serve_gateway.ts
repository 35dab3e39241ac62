import { createLogger, type Logger } from "../../base/mod.ts";
import { createGateway, type GatewayOptions } from "./gateway.ts";

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
  { host = "127.0.0.1", port, ...options }: Omit<GatewayOptions, "loopback"> & {
    readonly host?: string;
    readonly port: number;
  },
): Promise<GatewayServer> {
  const log = options.log ?? createLogger();
  const loopback = /^(?:localhost|127\..*|::1)$/.test(host);
  if (!loopback && options.token === undefined) {
    log.warn("Anybody who reaches this address may start and delete runs: set a token", { host });
  }
  if (options.runs !== undefined) await checkFolder(options.runs, log);
  const gateway = await createGateway({ ...options, loopback, log });
  const abort = new AbortController();
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({
      hostname: host,
      port,
      signal: abort.signal,
      onListen: () => {},
    }, gateway.fetch);
  } catch (cause) {
    gateway.close();
    throw new Error(`Cannot listen on ${host}:${port}: ${reason(cause)}`, { cause });
  }
  const drain = async (drainSeconds: number) => {
    gateway.stop();
    // A timer of no time at all may find the server closed, and Deno throws there.
    if (drainSeconds === 0) abort.abort();
    const timer = setTimeout(() => abort.abort(), drainSeconds * 1000);
    await server.shutdown();
    clearTimeout(timer);
    gateway.close();
  };
  let stopping: Promise<void> | undefined;
  return {
    address: `${host.includes(":") ? `[${host}]` : host}:${server.addr.port}`,
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

function reason(error: unknown): string {
  if (error instanceof Deno.errors.AddrInUse) return "the port is in use";
  if (error instanceof Deno.errors.PermissionDenied) {
    return "the port needs more rights; choose one above 1023";
  }
  if (error instanceof Deno.errors.AddrNotAvailable) {
    return "the address is not one of this machine's";
  }
  return error instanceof Error ? error.message : String(error);
}
