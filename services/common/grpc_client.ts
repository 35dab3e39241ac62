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
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
} from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import "./_goaway_guard.ts";
import { StatusError, type StatusName, statusName } from "./errors.ts";
import { methodDefinition } from "./grpc_service.ts";
import { DEFAULT_MAX_MESSAGE_BYTES } from "./grpc_server.ts";
import { raceAbort } from "./race_abort.ts";

/** Options of one call. */
export interface CallOptions {
  /** Gives up with DEADLINE_EXCEEDED after this long, retries included. Default: never. */
  readonly timeoutMs?: number;
  /** Ends the call with CANCELLED. */
  readonly signal?: AbortSignal;
  /** Sent along; keys in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** When a unary call is tried again, with random exponential backoff. */
export interface RetryOptions {
  /** Default 5, the first included. */
  readonly attempts?: number;
  /** Longest wait before the second attempt; doubles with each. Default 100 ms. */
  readonly initialMs?: number;
  /** Longest wait. Default 5,000 ms. */
  readonly maxMs?: number;
  /** Default UNAVAILABLE only. */
  readonly statuses?: readonly StatusName[];
}

/** PEM files of a client; a certificate and key of its own where the server asks for them. */
export interface ClientTls {
  /** Authority that signed the server's certificate. Default: the system's. */
  readonly ca?: Uint8Array;
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
  /** Name to expect in the server's certificate. Needed where the address is an IP address. Default: the address's. */
  readonly serverName?: string;
}

/** How a client reaches its server. */
export interface GrpcClientOptions {
  /** Default: plain HTTP/2. */
  readonly tls?: ClientTls;
  /** Sent as "authorization: Bearer <token>". */
  readonly token?: string;
  /** Largest message either way. Default 64 MiB. */
  readonly maxMessageBytes?: number;
  /** Default: unary calls are not tried again. */
  readonly retry?: RetryOptions;
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
 * @param address "host:port"
 */
export function grpcClient<S extends DescService>(
  descriptor: S,
  address: string,
  { tls, token, maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES, retry }: GrpcClientOptions = {},
): GrpcClient<S> {
  const pem = (bytes: Uint8Array | undefined) => bytes ? Buffer.from(bytes) : null;
  const channel = new Client(
    address,
    tls
      ? credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert))
      : credentials.createInsecure(),
    {
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": maxMessageBytes,
      // A restarted server is found again within seconds; the default waits up to two minutes.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2000,
      "grpc.enable_retries": 0,
      ...(tls?.serverName !== undefined && { "grpc.ssl_target_name_override": tls.serverName }),
      // Images are answered by gradients of their size: the default of 64 KiB waits once for each piece of them.
      "grpc-node.flow_control_window": 2 ** 23,
    },
  );
  const call: Call = { channel, ...(token !== undefined && { token }), ...(retry && { retry }) };
  const methods = descriptor.methods.map((
    method,
  ) => [method.localName, clientMethod(method, call)]);
  return Object.assign(Object.create(null), Object.fromEntries(methods), {
    close: () => channel.close(),
  });
}

interface Call {
  readonly channel: Client;
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
  { channel, token, retry }: Call,
  request: Message,
  options: CallOptions,
): Promise<Message> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { attempts = 5, initialMs = 100, maxMs = 5000, statuses = ["UNAVAILABLE"] } = retry ??
    { attempts: 1 };
  const { metadata, callOptions } = prepare(options, token);
  for (let attempt = 1;; attempt++) {
    options.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const call = channel.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      callOptions,
      (error, response) => error || !response ? reject(clientError(error)) : resolve(response),
    );
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel);
    try {
      return await promise;
    } catch (error) {
      options.signal?.throwIfAborted();
      const again = error instanceof StatusError && statuses.includes(error.status);
      const wait = Math.random() * Math.min(maxMs, initialMs * 2 ** (attempt - 1));
      const late = callOptions.deadline.valueOf() <= Date.now() + wait;
      if (!again || attempt >= attempts || late) throw error;
      await raceAbort(new Promise<void>((resolve) => setTimeout(resolve, wait)), options.signal);
    } finally {
      options.signal?.removeEventListener("abort", cancel);
    }
  }
}

function serverStream(
  method: DescMethod,
  { channel, token }: Call,
  request: Message,
  options: CallOptions,
): AsyncIterable<Message> {
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
    options.signal,
  );
}

async function* bidiStream(
  method: DescMethod,
  { channel, token }: Call,
  requests: AsyncIterable<MessageInitShape<DescMessage>>,
  options: CallOptions,
): AsyncIterable<Message> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { metadata, callOptions } = prepare(options, token);
  const call = channel.makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    metadata,
    callOptions,
  );
  let failure: { readonly error: unknown } | undefined;
  const sending = send(call, requests, method.input).catch((error) => {
    failure = { error };
    call.cancel();
  });
  try {
    yield* responses(() => call, options.signal);
  } catch (error) {
    throw failure?.error ?? error;
  } finally {
    call.cancel();
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
  signal: AbortSignal | undefined,
): AsyncIterable<Message> {
  signal?.throwIfAborted();
  const call = start();
  const cancel = () => call.cancel();
  signal?.addEventListener("abort", cancel);
  try {
    for await (const message of call) yield message;
  } catch (error) {
    throw signal?.aborted ? signal.reason : clientError(error);
  } finally {
    signal?.removeEventListener("abort", cancel);
    call.cancel();
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

function clientError(cause: unknown): StatusError {
  const found = cause instanceof Error && "code" in cause && typeof cause.code === "number";
  if (!found) return new StatusError("UNKNOWN", String(cause), { cause });
  const details = "details" in cause && typeof cause.details === "string" ? cause.details : "";
  const status = statusName(Number(cause.code));
  // The library's words for a connection that broke under a message, as when the server is killed.
  const isBroken = status === "INTERNAL" && details.startsWith("Received RST_STREAM");
  return new StatusError(isBroken ? "UNAVAILABLE" : status, details || cause.message, { cause });
}
