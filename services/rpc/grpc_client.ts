import { create } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import {
  type CallOptions as GrpcCallOptions,
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
} from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { connectionFault } from "./_connection_fault.ts";
import "./_goaway_guard.ts";
import { parseEndpoint } from "./endpoint.ts";
import { retried, type RetryOptions } from "./_retry.ts";
import { StatusError, statusName } from "./errors.ts";
import { methodDefinition } from "./grpc_service.ts";
import { DEFAULT_MAX_MESSAGE_BYTES } from "./grpc_server.ts";
import { raceAbort } from "../../base/mod.ts";

/** Options of one call. */
export interface CallOptions {
  /** Gives up with DEADLINE_EXCEEDED after this long, retries included. Default: never. */
  readonly timeoutMs?: number;
  /** Ends the call with CANCELLED. */
  readonly signal?: AbortSignal;
  /** Sent along; keys in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** PEM files of a client; a certificate and key of its own where the server asks for them. */
export interface ClientTls {
  /** Authorities that may have signed the server's certificate. Default: the system's. */
  readonly ca?: Uint8Array;
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
}

/** How a client reaches its server. */
export interface GrpcClientOptions {
  /** For addresses that begin with "grpcs://". */
  readonly tls?: ClientTls;
  /** Sent as "authorization: Bearer <token>". */
  readonly token?: string;
  /** Largest message either way. Default 64 MiB. */
  readonly maxMessageBytes?: number;
  /** Default: unary calls are not tried again. */
  readonly retry?: RetryOptions;
  /** Name that the server's certificate must be for, where the address is not that. Default: the address's host. */
  readonly serverName?: string;
  /**
   * While a call is in progress, the server is asked this often whether it is there, and the connection is given up when
   * no answer comes. Servers of other makes may not like it more often than every five minutes. Default: never.
   */
  readonly keepalive?: { readonly seconds: number; readonly timeoutSeconds: number };
}

type ClientMethod<M> = M extends DescMethodUnary<infer I, infer O>
  ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
  : M extends DescMethodServerStreaming<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
  : M extends DescMethodBiDiStreaming<infer I, infer O> ? (
      requests: AsyncIterable<MessageInitShape<I>>,
      options?: CallOptions,
    ) => AsyncIterable<MessageShape<O>>
  : never;

/** One function a method of a service. Failures are `StatusError`s; leaving a stream early cancels its call. */
export type GrpcClient<S extends DescService> =
  & { readonly [K in keyof S["method"]]: ClientMethod<S["method"][K]> }
  & {
    /** Closes the connection. */
    close(): void;
  };

/**
 * Makes a client. It connects with the first call, and again by itself when the connection is lost.
 *
 * @param address "host:port", with "grpcs://" before it where the connection is to be encrypted. Throws `StatusError`
 *   INVALID_ARGUMENT for another one
 */
export function grpcClient<S extends DescService>(
  descriptor: S,
  address: string,
  {
    tls = {},
    token,
    maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES,
    retry,
    serverName,
    keepalive,
  }: GrpcClientOptions = {},
): GrpcClient<S> {
  const target = parseEndpoint(address);
  if (target === undefined) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `Address is "${address}", expected HOST:PORT or grpcs://HOST:PORT`,
    );
  }
  const name = serverName ?? target.host;
  const channel = new Client(
    target.authority,
    target.secure ? secureCredentials(name, tls) : credentials.createInsecure(),
    {
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": maxMessageBytes,
      // A restarted server is found again within seconds; the default waits up to two minutes.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2000,
      "grpc.enable_retries": 0,
      ...(keepalive && {
        "grpc.keepalive_time_ms": 1000 * keepalive.seconds,
        "grpc.keepalive_timeout_ms": 1000 * keepalive.timeoutSeconds,
      }),
      // An IP address is no name to ask a server for: some name has to stand in its place.
      ...(target.secure && isIP(target.host) !== 0 &&
        { "grpc.ssl_target_name_override": isIP(name) === 0 ? name : "localhost" }),
      // Images are answered by gradients of their size: the default of 64 KiB waits once for each piece of them.
      "grpc-node.flow_control_window": 2 ** 23,
    },
  );
  const call: Call = {
    channel,
    address,
    secure: target.secure,
    ...(token !== undefined && { token }),
    ...(retry && { retry }),
  };
  const methods = descriptor.methods.map((
    method,
  ) => [method.localName, clientMethod(method, call)]);
  return Object.assign(Object.create(null), Object.fromEntries(methods), {
    close: () => channel.close(),
  });
}

/** Throws `StatusError` INVALID_ARGUMENT for files that are not what they should be. */
function secureCredentials(serverName: string, { ca, cert, key }: ClientTls): ChannelCredentials {
  const pem = (bytes: Uint8Array | undefined) => bytes ? Buffer.from(bytes) : null;
  return credentials.createSsl(pem(ca), pem(key), pem(cert), {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(serverName, certificate),
  });
}

interface Call {
  readonly channel: Client;
  /** As it was given. */
  readonly address: string;
  readonly secure: boolean;
  readonly token?: string;
  readonly retry?: RetryOptions;
}

function clientMethod(method: DescMethod, call: Call) {
  switch (method.methodKind) {
    case "unary":
      return (request: MessageInitShape<DescMessage>, options: CallOptions = {}) =>
        unary(method, call, create(method.input, request), options);
    case "server_streaming":
      return (request: MessageInitShape<DescMessage>, options: CallOptions = {}) =>
        serverStream(method, call, create(method.input, request), options);
    case "bidi_streaming":
      return (
        requests: AsyncIterable<MessageInitShape<DescMessage>>,
        options: CallOptions = {},
      ) => bidiStream(method, call, requests, options);
    case "client_streaming":
      throw new TypeError(
        `Client streaming is not supported: ${method.parent.typeName}/${method.name}`,
      );
  }
}

async function unary(
  method: DescMethod,
  call: Call,
  request: Message,
  options: CallOptions,
): Promise<Message> {
  const { channel, token, retry } = call;
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { metadata, callOptions } = prepare(options, token);
  const { signal } = options;
  return await retried(async () => {
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const sent = channel.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      callOptions,
      (error, response) =>
        error || !response ? reject(clientError(error, call)) : resolve(response),
    );
    const cancel = () => sent.cancel();
    signal?.addEventListener("abort", cancel);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }, { retry, deadline: callOptions.deadline, signal });
}

function serverStream(
  method: DescMethod,
  call: Call,
  request: Message,
  options: CallOptions,
): AsyncIterable<Message> {
  const { channel, token } = call;
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { metadata, callOptions } = prepare(options, token);
  return responses(
    () =>
      channel.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        callOptions,
      ),
    { call, signal: options.signal },
  );
}

async function* bidiStream(
  method: DescMethod,
  call: Call,
  requests: AsyncIterable<MessageInitShape<DescMessage>>,
  options: CallOptions,
): AsyncIterable<Message> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { metadata, callOptions } = prepare(options, call.token);
  const stream = call.channel.makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    metadata,
    callOptions,
  );
  let failure: { readonly error: unknown } | undefined;
  const sending = send(stream, requests, method.input).catch((error) => {
    failure = { error };
    stream.cancel();
  });
  try {
    yield* responses(() => stream, { call, signal: options.signal });
  } catch (error) {
    throw failure?.error ?? error;
  } finally {
    stream.cancel();
    await sending;
  }
}

/** Sends requests as fast as the server takes them, until they end or the call does. */
async function send(
  call: ClientDuplexStream<Message, Message>,
  requests: AsyncIterable<MessageInitShape<DescMessage>>,
  schema: DescMessage,
): Promise<void> {
  const ended = new AbortController();
  call.once("status", () => ended.abort());
  const iterator = requests[Symbol.asyncIterator]();
  try {
    while (true) {
      const next = await raceAbort(iterator.next(), ended.signal);
      if (next.done) break;
      const { promise, resolve } = Promise.withResolvers<void>();
      if (!call.write(create(schema, next.value), resolve)) await raceAbort(promise, ended.signal);
    }
    call.end();
  } catch (error) {
    if (ended.signal.aborted) void iterator.return?.();
    else throw error;
  }
}

async function* responses(
  start: () => ClientReadableStream<Message> | ClientDuplexStream<Message, Message>,
  { call, signal }: { readonly call: Call; readonly signal: AbortSignal | undefined },
): AsyncIterable<Message> {
  signal?.throwIfAborted();
  const stream = start();
  const cancel = () => stream.cancel();
  signal?.addEventListener("abort", cancel);
  try {
    for await (const message of stream) yield message;
  } catch (error) {
    throw signal?.aborted ? signal.reason : clientError(error, call);
  } finally {
    signal?.removeEventListener("abort", cancel);
    stream.cancel();
  }
}

function prepare(
  { timeoutMs = Infinity, metadata: entries = {} }: CallOptions,
  token: string | undefined,
) {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(entries)) metadata.set(key, value);
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  const callOptions = { deadline: Date.now() + timeoutMs } satisfies GrpcCallOptions;
  return { metadata, callOptions };
}

function clientError(cause: unknown, call: Call): StatusError {
  const found = cause instanceof Error && "code" in cause && typeof cause.code === "number";
  if (!found) return new StatusError("UNKNOWN", String(cause), { cause });
  const details = "details" in cause && typeof cause.details === "string" ? cause.details : "";
  const status = statusName(Number(cause.code));
  // The library's words for a connection that broke under a message, as when the server is killed.
  const isBroken = status === "INTERNAL" && details.startsWith("Received RST_STREAM");
  if (status === "DEADLINE_EXCEEDED" && details.startsWith("Deadline exceeded after")) {
    const seconds = Number(/after ([\d.]+)s/.exec(details)?.[1] ?? NaN);
    const message = `Deadline exceeded: no answer from ${call.address} within ${seconds} s`;
    return new StatusError(status, message, { cause });
  }
  const fault = status === "UNAVAILABLE" ? connectionFault(details, call) : undefined;
  if (fault !== undefined) return new StatusError(fault.status, fault.message, { cause });
  return new StatusError(isBroken ? "UNAVAILABLE" : status, details || cause.message, { cause });
}
