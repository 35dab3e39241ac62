import {
  logVerbosity,
  type Metadata,
  Server,
  ServerCredentials,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { Http2Server, ServerHttp2Session } from "node:http2";
import { createServer, type Server as SocketServer } from "node:net";
import { checkToken } from "./_check_token.ts";
import "./_goaway_guard.ts";
import { HealthStatuses } from "./_health.ts";
import { PiecewiseCall } from "./_piecewise_call.ts";
import { reflection } from "./_reflection.ts";
import { ServerGuard } from "./_server_guard.ts";
import type { CallObserver, GrpcService } from "./grpc_service.ts";
import { StatusError } from "./errors.ts";
import { type ServerLimits, serverLimits } from "./server_limits.ts";
import { createLogger, listenHost, type Logger, orSilence } from "../../base/mod.ts";

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
  /** What callers may take of it. Default: `serverLimits` of the largest message. */
  readonly limits?: Partial<ServerLimits>;
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
  host: givenHost = "127.0.0.1",
  port,
  tls,
  maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES,
  keepalive: { seconds: keepaliveSeconds = 60, timeoutSeconds = 20 } = {},
  limits: ownLimits = {},
  log = createLogger(),
  observe,
}: GrpcServerOptions): Promise<GrpcServer> {
  const host = listenHost(givenHost);
  // What the library would write to stderr, it also throws.
  setLogVerbosity(logVerbosity.NONE);
  const limits = serverLimits(maxMessageBytes, ownLimits);
  const guard = new ServerGuard(limits);
  const tokens = tokensOf(services);
  const refuse = (path: string, headers: Metadata, peer: string) => {
    const token = tokens.get(path);
    if (token === undefined) return undefined;
    const error = checkToken(headers.get("authorization")[0]?.toString(), token);
    if (error) told({ path, headers, peer }, error);
    return error;
  };
  /** A call that its service does not see is counted and logged as others are. */
  const told = (
    { path, headers, peer }: {
      readonly path: string;
      readonly headers: Metadata;
      readonly peer: string;
    },
    { status, message }: StatusError,
  ) => {
    const [service = "", method = ""] = path.slice(1).split("/");
    const metadata = (key: string) => headers.get(key)[0]?.toString();
    const context = { signal: AbortSignal.abort(), peer, metadata };
    observe?.({ service, method, context })({ status, seconds: 0 });
    log.info("rpc", { method: path.slice(1), peer, status, seconds: 0, error: message });
  };
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.keepalive_time_ms": keepaliveSeconds * 1000,
    "grpc.keepalive_timeout_ms": timeoutSeconds * 1000,
    "grpc.max_concurrent_streams": limits.maxCallsPerConnection,
    interceptors: [
      (method, call) => new PiecewiseCall(call, method, { guard, maxMessageBytes, refuse }),
    ],
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

  const sockets = accept(server, { guard, ...(tls && { tls }) });
  let bound: number;
  try {
    bound = await listen(sockets, { host, port });
  } catch (error) {
    guard.close();
    server.forceShutdown();
    throw error;
  }

  const drain = async (drainSeconds: number) => {
    health.close();
    const idle = Promise.withResolvers<void>();
    onIdle = idle.resolve;
    if (calls.size === 0) idle.resolve();
    sockets.close();
    server.tryShutdown(() => {});
    await orSilence(idle.promise, 1000 * drainSeconds);
    if (calls.size > 0) log.warn("Calls ended at the end of draining", { calls: calls.size });
    for (const call of calls) {
      call.abort(new StatusError("UNAVAILABLE", "The server is stopping"));
    }
    // Connections may stay open for ever; the last responses have a moment to leave.
    await orSilence(guard.empty(), LEAVE_MS);
    server.forceShutdown();
    guard.close();
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

function tokensOf(services: readonly GrpcService[]): ReadonlyMap<string, string> {
  const entries = services.flatMap(({ descriptor, token }) =>
    token === undefined ? [] : descriptor.methods.map((method) =>
      [
        `/${descriptor.typeName}/${method.name}`,
        token,
      ] as const
    )
  );
  return new Map(entries);
}

/** A socket server whose connections the guard admits before the gRPC library sees them. */
function accept(
  server: Server,
  { guard, tls }: { readonly guard: ServerGuard; readonly tls?: ServerTls },
): SocketServer {
  const credentials = tls
    ? ServerCredentials.createSsl(
      // Without any, Deno sends the names of all the system's authorities, more than some clients read.
      Buffer.from(tls.clientCa ?? tls.cert),
      [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }],
      tls.clientCa !== undefined,
    )
    : ServerCredentials.createInsecure();
  const injector = server.createConnectionInjector(credentials);
  // Nothing else tells that a peer has spoken HTTP/2: a session is there from the first byte on.
  const [http2]: readonly Http2Server[] = [...Reflect.get(server, "http2Servers").keys()];
  http2?.on("session", (session: ServerHttp2Session) => {
    const peer = `${session.socket.remoteAddress}:${session.socket.remotePort}`;
    session.once("remoteSettings", () => guard.greet(peer));
  });
  return createServer({ noDelay: true }, (socket) => {
    if (guard.admit(socket)) injector.injectConnection(socket);
  });
}

async function listen(
  sockets: SocketServer,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  sockets.once("error", reject);
  sockets.listen({ host, port }, resolve);
  try {
    await promise;
  } catch (cause) {
    const target = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    throw new Error(`Cannot listen on ${target}: ${reason(String(cause))}`, { cause });
  }
  // Such as one that found no file left for it; the next may find one.
  sockets.off("error", reject);
  sockets.on("error", () => {});
  const address = sockets.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

function reason(message: string): string {
  if (message.includes("EADDRINUSE")) return "the port is in use";
  if (message.includes("EACCES")) return "the port needs more rights; choose one above 1023";
  if (message.includes("EADDRNOTAVAIL")) return "the address is not one of this machine's";
  return message;
}
