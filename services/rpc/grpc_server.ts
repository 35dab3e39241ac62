import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import "./_goaway_guard.ts";
import { HealthStatuses } from "./_health.ts";
import { PiecewiseCall } from "./_piecewise_call.ts";
import { reflection } from "./_reflection.ts";
import type { CallObserver, GrpcService } from "./grpc_service.ts";
import { StatusError } from "./errors.ts";
import { orSilence } from "../../base/mod.ts";
import { createLogger, type Logger } from "../../base/mod.ts";

/** Largest message either way by default: 64 MiB, five images of 1024x1024 in float32. */
export const DEFAULT_MAX_MESSAGE_BYTES = 64 * 2 ** 20;

/** PEM files of a server. With `clientCa`, callers must show a certificate it signed (mutual TLS). */
export interface ServerTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  readonly clientCa?: Uint8Array;
}

/** How a server is started. */
export interface GrpcServerOptions {
  readonly services: readonly GrpcService[];
  /** Address to listen on. Default "127.0.0.1": this machine only. */
  readonly host?: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Default: none, plain HTTP/2. */
  readonly tls?: ServerTls;
  /** Largest message either way. Default 64 MiB. */
  readonly maxMessageBytes?: number;
  /** Silent connections are pinged after this long, and closed when no answer comes. Default 60 and 20 seconds. */
  readonly keepalive?: { readonly seconds?: number; readonly timeoutSeconds?: number };
  readonly log?: Logger;
  readonly observe?: CallObserver;
}

/** A server that listens. */
export interface GrpcServer {
  /** "host:port" with the port in use. */
  readonly address: string;
  readonly port: number;
  /** Sets the health status of a service or part of one; "" (the process) and the services begin as serving. */
  setHealth(name: string, serving: boolean): void;
  /**
   * Stops: health says NOT_SERVING, new calls are refused, calls in progress get `drainSeconds` to end (default 30),
   * then they are answered UNAVAILABLE. Safe to call twice.
   */
  stop(options?: { readonly drainSeconds?: number }): Promise<void>;
}

/**
 * Starts a gRPC server with health (grpc.health.v1) and reflection.
 * Throws an `Error` that says what is wrong with the address when it cannot listen there.
 */
export async function startGrpcServer({
  services,
  host = "127.0.0.1",
  port,
  tls,
  maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES,
  keepalive: { seconds: keepaliveSeconds = 60, timeoutSeconds = 20 } = {},
  log = createLogger(),
  observe,
}: GrpcServerOptions): Promise<GrpcServer> {
  // What the library would write to stderr, it also throws.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.keepalive_time_ms": keepaliveSeconds * 1000,
    "grpc.keepalive_timeout_ms": timeoutSeconds * 1000,
    interceptors: [(_method, call) => new PiecewiseCall(call, maxMessageBytes)],
  });

  const calls = new Set<AbortController>();
  let onIdle = () => {};
  const begin = (call: AbortController) => {
    calls.add(call);
    return () => {
      calls.delete(call);
      if (calls.size === 0) onIdle();
    };
  };

  const health = new HealthStatuses();
  const all = [...services, health.service];
  for (const service of all) {
    const { definition, implementation } = service.bind({
      log,
      begin,
      ...(observe && { observe }),
    });
    server.addService(definition, implementation);
    health.set(service.descriptor.typeName, true);
  }
  health.set("", true);
  reflection(all).addToServer(server);

  const bound = await listen(server, { host, port, ...(tls && { tls }) });

  const drain = async (drainSeconds: number) => {
    health.close();
    const idle = Promise.withResolvers<void>();
    onIdle = idle.resolve;
    if (calls.size === 0) idle.resolve();
    const closed = Promise.withResolvers<void>();
    server.tryShutdown(() => closed.resolve());
    await orSilence(idle.promise, 1000 * drainSeconds);
    if (calls.size > 0) log.warn("Calls ended at the end of draining", { calls: calls.size });
    for (const call of calls) {
      call.abort(new StatusError("UNAVAILABLE", "The server is stopping"));
    }
    // Connections may stay open for ever; the last responses have a moment to leave.
    await orSilence(closed.promise, LEAVE_MS);
    server.forceShutdown();
  };
  let stopping: Promise<void> | undefined;
  return {
    address: `${host.includes(":") ? `[${host}]` : host}:${bound}`,
    port: bound,
    setHealth: (name, serving) => health.set(name, serving),
    stop: ({ drainSeconds = 30 } = {}) => stopping ??= drain(drainSeconds),
  };
}

const LEAVE_MS = 500;

async function listen(
  server: Server,
  { host, port, tls }: { readonly host: string; readonly port: number; readonly tls?: ServerTls },
): Promise<number> {
  const target = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const credentials = tls
    ? ServerCredentials.createSsl(
      // Without any, Deno sends the names of all the system's authorities, more than some clients read.
      Buffer.from(tls.clientCa ?? tls.cert),
      [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }],
      tls.clientCa !== undefined,
    )
    : ServerCredentials.createInsecure();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync(target, credentials, (error, bound) => error ? reject(error) : resolve(bound));
  try {
    return await promise;
  } catch (cause) {
    throw new Error(`Cannot listen on ${target}: ${reason(String(cause))}`, { cause });
  }
}

function reason(message: string): string {
  if (message.includes("EADDRINUSE")) return "the port is in use";
  if (message.includes("EACCES")) return "the port needs more rights; choose one above 1023";
  if (message.includes("EADDRNOTAVAIL")) return "the address is not one of this machine's";
  return message;
}
