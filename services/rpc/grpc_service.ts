import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type {
  Deadline,
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  MethodDefinition,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { SpanStatusCode } from "@opentelemetry/api";
import { Buffer } from "node:buffer";
import { type ErrorMap, StatusError, type StatusName, toStatusError } from "./errors.ts";
import type { Logger } from "../../base/mod.ts";
import { raceAbort } from "../../base/mod.ts";
import { inServerSpan } from "./_server_span.ts";
import { encodeInParts, holdsBytes } from "./_encode_in_parts.ts";
import { sendAs } from "./_piecewise_call.ts";
import { faultOf, readMessage } from "./_read_message.ts";

/** What a handler knows about its call beside the request. */
export interface CallContext {
  /** Aborts when the caller cancels or goes away, or the deadline passes; its reason is a `StatusError`. */
  readonly signal: AbortSignal;
  /** When the caller stops waiting; undefined when it set no deadline. */
  readonly deadline?: Date;
  /** The caller's address. */
  readonly peer: string;
  /** First text value of a metadata key. */
  metadata(key: string): string | undefined;
}

type Handler<M> = M extends DescMethodUnary<infer I, infer O>
  ? (request: MessageShape<I>, context: CallContext) => Promise<MessageInitShape<O>>
  : M extends DescMethodServerStreaming<infer I, infer O>
    ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
  : M extends DescMethodClientStreaming<infer I, infer O> ? (
      requests: AsyncIterable<MessageShape<I>>,
      context: CallContext,
    ) => Promise<MessageInitShape<O>>
  : M extends DescMethodBiDiStreaming<infer I, infer O> ? (
      requests: AsyncIterable<MessageShape<I>>,
      context: CallContext,
    ) => AsyncIterable<MessageInitShape<O>>
  : never;

/** One handler for each method of a service: promises for single responses, async iterables for streams. */
export type Handlers<S extends DescService> = {
  readonly [K in keyof S["method"]]: Handler<S["method"][K]>;
};

/** A call, as seen by an observer. */
export interface CallStart {
  /** Full name, e.g. "drtune.reward.v1.RewardService". */
  readonly service: string;
  readonly method: string;
  readonly context: CallContext;
}

/** How a call ended. */
export interface CallEnd {
  readonly status: StatusName | "OK";
  readonly seconds: number;
}

/** Told when each call starts; what it returns is told when the call ends. For metrics and traces. */
export type CallObserver = (call: CallStart) => (end: CallEnd) => void;

/** What a server gives to the services bound to it. */
export interface ServiceEnvironment {
  readonly log: Logger;
  readonly observe?: CallObserver;
  /** Told of each call when it starts, to be able to abort it; what it returns is called when the call ends. */
  begin(call: AbortController): () => void;
}

/** A service ready to be added to a server. */
export interface GrpcService {
  readonly descriptor: DescService;
  /** What callers must send as "authorization: Bearer <token>", asked for before a body is read. */
  readonly token?: string;
  bind(environment: ServiceEnvironment): {
    readonly definition: ServiceDefinition;
    readonly implementation: UntypedServiceImplementation;
  };
}

/** What every kind of call has. */
interface AnyCall {
  readonly metadata: Metadata;
  getPeer(): string;
  getDeadline(): Deadline;
  once(event: "cancelled", listener: () => void): unknown;
}

/**
 * Makes a gRPC service of plain functions.
 *
 * @param descriptor the generated service description
 * @param handlers one function a method; what they throw goes through `mapError`, then `toStatusError`
 */
export function grpcService<S extends DescService>(
  descriptor: S,
  handlers: Handlers<S>,
  { mapError, token }: {
    readonly mapError?: ErrorMap;
    /** Callers must send "authorization: Bearer <token>"; others get UNAUTHENTICATED. */
    readonly token?: string;
  } = {},
): GrpcService {
  return {
    descriptor,
    ...(token !== undefined && { token }),
    bind: ({ log, observe, begin }) => {
      /** Runs a call to its end; answers what the caller is to be told, undefined for OK. */
      const run = async (
        method: DescMethod,
        call: AnyCall,
        body: (context: CallContext) => Promise<void>,
      ): Promise<StatusError | undefined> => {
        const start = performance.now();
        const controller = new AbortController();
        const end = begin(controller);
        const context = contextOf(call, controller);
        const ended = observe?.({ service: descriptor.typeName, method: method.name, context });
        let failure: StatusError | undefined;
        const span = {
          service: descriptor.typeName,
          method: method.name,
          traceparent: context.metadata("traceparent"),
        };
        await inServerSpan(span, async (span) => {
          try {
            await body(context);
          } catch (error) {
            failure = toStatusError(error, mapError);
            span.setAttribute("rpc.grpc.status_code", failure.code);
            span.setStatus({ code: SpanStatusCode.ERROR, message: failure.message });
          }
        });
        end();
        const status = failure?.status ?? "OK";
        const seconds = (performance.now() - start) / 1000;
        ended?.({ status, seconds });
        const fields = { method: `${descriptor.typeName}/${method.name}`, peer: context.peer };
        const line = { ...fields, status, seconds: Number(seconds.toFixed(6)) };
        if (failure === undefined) log.debug("rpc", line);
        else {
          const level = failure.status === "INTERNAL" ? "error" : "info";
          log[level]("rpc", { ...line, error: failure.message, cause: failure.cause });
        }
        return failure;
      };

      const definition: Record<string, MethodDefinition<Message, Message>> = {};
      const implementation: UntypedServiceImplementation = {};
      for (const method of descriptor.methods) {
        definition[method.localName] = {
          ...methodDefinition(method),
          requestDeserialize: (bytes) => readMessage(method.input, plain(bytes)),
        };
        implementation[method.localName] = implement(
          method,
          handlerOf(handlers, method.localName),
          run,
        );
      }
      return { definition, implementation };
    },
  };
}

type Run = (
  method: DescMethod,
  call: AnyCall,
  body: (context: CallContext) => Promise<void>,
) => Promise<StatusError | undefined>;

type AnyHandler = (
  input: Message | AsyncIterable<Message>,
  context: CallContext,
) => Promise<MessageInitShape<DescMessage>> & AsyncIterable<MessageInitShape<DescMessage>>;

/** `Handlers<S>` pairs each name with its method; a loop over methods knows only that there is some handler. */
function handlerOf(handlers: object, name: string): AnyHandler {
  return Reflect.get(handlers, name);
}

function implement(method: DescMethod, handler: AnyHandler, run: Run) {
  const mayBeLarge = holdsBytes(method.output);
  const respond = (answer: MessageInitShape<DescMessage>): Message => {
    const message = create(method.output, answer);
    if (mayBeLarge) sendAs(message, encodeInParts(method.output, message));
    return message;
  };
  const single = async (
    call: ServerUnaryCall<Message, Message> | ServerReadableStream<Message, Message>,
    input: Message | AsyncIterable<Message>,
    callback: Parameters<handleUnaryCall<Message, Message>>[1],
  ) => {
    let response: Message | null = null;
    const failure = await run(method, call, async (context) => {
      checkRead(input);
      const answer = await raceAbort(handler(input, context), context.signal);
      response = respond(answer);
    });
    callback(failure ? wireStatus(failure) : null, response);
  };
  const stream = async (
    call: ServerWritableStream<Message, Message> | ServerDuplexStream<Message, Message>,
    input: Message | AsyncIterable<Message>,
  ) => {
    const failure = await run(method, call, async (context) => {
      checkRead(input);
      for await (const answer of handler(input, context)) {
        context.signal.throwIfAborted();
        if (!call.write(respond(answer))) await drained(call, context.signal);
      }
    });
    if (failure) call.emit("error", wireStatus(failure));
    else call.end();
  };
  switch (method.methodKind) {
    case "unary":
      return ((call, callback) => {
        void single(call, call.request, callback);
      }) satisfies handleUnaryCall<Message, Message>;
    case "client_streaming":
      return ((call, callback) => {
        void single(call, readable(call.iterator({ destroyOnReturn: false })), callback);
      }) satisfies handleClientStreamingCall<Message, Message>;
    case "server_streaming":
      return ((call) => {
        void stream(call, call.request);
      }) satisfies handleServerStreamingCall<Message, Message>;
    case "bidi_streaming":
      return ((call) => {
        // The handler may stop reading early and still answer: the stream must outlive the iterator.
        void stream(call, readable(call.iterator({ destroyOnReturn: false })));
      }) satisfies handleBidiStreamingCall<Message, Message>;
  }
}

/** Throws `StatusError` INVALID_ARGUMENT for a request that could not be read. */
function checkRead(input: Message | AsyncIterable<Message>): void {
  const fault = Symbol.asyncIterator in input ? undefined : faultOf(input);
  if (fault) throw fault;
}

/** The requests of a stream, up to one that could not be read, which throws. */
async function* readable(requests: AsyncIterable<Message>): AsyncIterable<Message> {
  for await (const request of requests) {
    checkRead(request);
    yield request;
  }
}

/** How long a request may have been on its way here. */
const UNDER_WAY_MS = 200;

function wireStatus(error: StatusError) {
  return { code: error.code, details: error.message };
}

function contextOf(call: AnyCall, controller: AbortController): CallContext {
  const until = call.getDeadline();
  const deadline = until instanceof Date
    ? until
    : Number.isFinite(until)
    ? new Date(until)
    : undefined;
  call.once("cancelled", () => {
    // The caller's clock ran while its request was on the way.
    const late = deadline !== undefined && deadline.getTime() - UNDER_WAY_MS <= Date.now();
    controller.abort(
      late
        ? new StatusError("DEADLINE_EXCEEDED", "Deadline exceeded")
        : new StatusError("CANCELLED", "Cancelled by the caller"),
    );
  });
  return {
    signal: controller.signal,
    ...(deadline && { deadline }),
    peer: call.getPeer(),
    metadata: (key) => call.metadata.get(key)[0]?.toString(),
  };
}

/** Resolves when the stream takes more; rejects with the signal's reason. */
function drained(
  call: ServerWritableStream<Message, Message> | ServerDuplexStream<Message, Message>,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  call.once("drain", resolve);
  return raceAbort(promise, signal).finally(() => call.off("drain", resolve));
}

/** Bytes fields are views of what comes in, and must not be `Buffer`s, whose `slice` does not copy. */
function plain({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The wire side of a method, for a server or a client. */
export function methodDefinition(method: DescMethod): MethodDefinition<Message, Message> {
  const serialize = (schema: DescMessage) => (message: Message) => {
    const { buffer, byteOffset, byteLength } = toBinary(schema, message);
    return Buffer.from(buffer, byteOffset, byteLength);
  };
  const deserialize = (schema: DescMessage) => (bytes: Uint8Array) =>
    fromBinary(schema, plain(bytes));
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" ||
      method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" ||
      method.methodKind === "bidi_streaming",
    requestSerialize: serialize(method.input),
    requestDeserialize: deserialize(method.input),
    responseSerialize: serialize(method.output),
    responseDeserialize: deserialize(method.output),
  };
}
