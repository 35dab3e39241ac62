import {
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type JsonValue,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import type { Context } from "hono";
import { type Logger, orSilence } from "../../base/mod.ts";
import { type CallOptions, type MessageSchemas } from "../rpc/mod.ts";
import type { HeldBodies } from "./body_limit.ts";
import type { BodyReader } from "./body_reader.ts";
import { callerSignal } from "./caller.ts";
import { eventStream, type ServerEvent } from "./event_stream.ts";
import { mediaType, MESSAGE_TYPES, queryValue, requestMessage } from "./request_message.ts";
import type { Route, RouteContent, RouteParameter, RouteTag } from "./route.ts";

/** A method as HTTP: the path's names, the query and the body are fields of its request message. */
export interface RpcBinding {
  readonly method: Route["method"];
  readonly path: string;
  readonly tag: RouteTag;
  readonly summary: string;
  /** Values of the path that are not fields of the message. */
  readonly parameters?: readonly RouteParameter[];
  readonly maxBytes?: number;
}

/** What all routes to gRPC services share. */
export interface RpcEnvironment {
  readonly schemas: MessageSchemas;
  readonly bodies: BodyReader;
  /** Counts the bytes of all bodies. */
  readonly held: HeldBodies;
  readonly log: Logger;
  /** Aborts when the gateway stops; streams end then. */
  readonly stopping: AbortSignal;
  /** Told when a stream of events starts; what it returns is called when it has ended. */
  readonly onStream: () => () => void;
}

/** Longest a unary call may take. */
const UNARY_TIMEOUT_MS = 60_000;

/** A stream that fails within this time answers the failure's HTTP status; later ones end with an "error" event. */
const FIRST_EVENT_MS = 2000;

/** The route of a method with one response. */
export function unaryRoute<I extends DescMessage, O extends DescMessage>(
  descriptor: DescMethodUnary<I, O>,
  call: (
    request: MessageShape<I>,
    options: CallOptions,
    context: Context,
  ) => Promise<MessageShape<O>>,
  { binding, environment, created }: {
    readonly binding: RpcBinding;
    readonly environment: RpcEnvironment;
    /** When the status is 201, in words and of a response. */
    readonly created?: {
      readonly when: string;
      readonly is: (response: MessageShape<O>) => boolean;
    };
  },
): Route {
  const { schemas } = environment;
  return {
    ...described(descriptor, binding, schemas),
    response: {
      status: 200,
      description: schemas.comment(descriptor.output.typeName) ?? descriptor.output.name,
      ...(created && { created: created.when }),
      content: { "application/json": schemas.message(descriptor.output) },
    },
    handle: async (context) => {
      const request = await readRequest(descriptor.input, context, { binding, environment });
      const signal = callerSignal(context.req.raw);
      const response = await call(request, { timeoutMs: UNARY_TIMEOUT_MS, signal }, context);
      return Response.json(messageJson(descriptor.output, response), {
        status: created?.is(response) ? 201 : 200,
      });
    },
  };
}

/** The route of a method with a stream of responses: server-sent events, named after the field that is set. */
export function streamRoute<I extends DescMessage, O extends DescMessage>(
  descriptor: DescMethodServerStreaming<I, O>,
  call: (
    request: MessageShape<I>,
    options: CallOptions,
    context: Context,
  ) => AsyncIterable<MessageShape<O>>,
  { binding, environment, idOf }: {
    readonly binding: RpcBinding;
    readonly environment: RpcEnvironment;
    /** Id of an event, to continue after it. */
    readonly idOf?: (response: MessageShape<O>) => string | undefined;
  },
): Route {
  const { schemas, stopping } = environment;
  const { output } = descriptor;
  return {
    ...described(descriptor, binding, schemas),
    response: {
      status: 200,
      description: `${schemas.comment(output.typeName) ?? output.name} ` +
        'The last event is "end", or "error" with the body of an error\'s answer.',
      content: { "text/event-stream": { events: eventSchemas(output, schemas) } },
    },
    handle: async (context) => {
      const request = await readRequest(descriptor.input, context, { binding, environment });
      const gone = new AbortController();
      const signal = AbortSignal.any([gone.signal, stopping, callerSignal(context.req.raw)]);
      const events = eventsOf(call(request, { signal }, context), output, idOf);
      return await streamOnceStarted(events, {
        log: environment.log,
        onEnd: endsOnce(environment.onStream(), () => gone.abort()),
      });
    },
  };
}

/** Waits a little for the first event, so that a refusal has an HTTP status; then streams. */
export async function streamOnceStarted(
  events: AsyncIterable<ServerEvent>,
  { log, onEnd }: { readonly log: Logger; readonly onEnd: () => void },
): Promise<Response> {
  const iterator = events[Symbol.asyncIterator]();
  const first = iterator.next();
  try {
    await orSilence(first, FIRST_EVENT_MS);
  } catch (error) {
    onEnd();
    throw error;
  }
  const replayed = async function* () {
    try {
      for (let next = await first; !next.done; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  };
  return eventStream(replayed(), { log, onEnd });
}

/** Calls both functions the first time. */
export function endsOnce(...ends: readonly (() => void)[]): () => void {
  let ended = false;
  return () => {
    if (ended) return;
    ended = true;
    ends.forEach((end) => end());
  };
}

/** The JSON form of a message, fields with default values included. */
export function messageJson<D extends DescMessage>(
  descriptor: D,
  message: MessageShape<D>,
): JsonValue {
  return toJson(descriptor, message, { alwaysEmitImplicit: true });
}

/** Turns messages into events: of a message that is one of several, the one it is; of others, "message". */
export async function* eventsOf<D extends DescMessage>(
  messages: AsyncIterable<MessageShape<D>>,
  descriptor: D,
  idOf?: (message: MessageShape<D>) => string | undefined,
): AsyncIterable<ServerEvent> {
  const cases = isUnion(descriptor);
  for await (const message of messages) {
    const json = messageJson(descriptor, message);
    const id = idOf?.(message);
    const withId = id === undefined ? {} : { id };
    if (!cases || typeof json !== "object" || json === null || Array.isArray(json)) {
      yield { event: "message", data: json, ...withId };
    } else {
      for (const [event, data] of Object.entries(json)) yield { event, data, ...withId };
    }
  }
}

/** Schemas of the events `eventsOf` makes. */
export function eventSchemas(descriptor: DescMessage, schemas: MessageSchemas) {
  if (!isUnion(descriptor)) return { message: schemas.message(descriptor) };
  return Object.fromEntries(
    descriptor.fields.map((field) => [field.jsonName, schemas.field(field)]),
  );
}

/** All of its fields belong to one oneof. */
function isUnion({ fields, oneofs }: DescMessage): boolean {
  return oneofs.length === 1 && fields.every(({ oneof }) => oneof === oneofs[0]);
}

function described(
  descriptor: {
    readonly name: string;
    readonly input: DescMessage;
    readonly parent: { typeName: string };
  },
  { method, path, tag, summary, parameters: own = [], maxBytes }: RpcBinding,
  schemas: MessageSchemas,
) {
  const { input } = descriptor;
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
  const parameters = input.fields
    .filter(({ jsonName }) => method !== "post" || inPath.includes(jsonName))
    .map((field): RouteParameter => ({
      name: field.jsonName,
      in: inPath.includes(field.jsonName) ? "path" : "query",
      schema: schemas.field(field),
      description: schemas.comment(`${input.typeName}.${field.name}`),
    }));
  const without = input.fields.map(({ jsonName }) => jsonName).filter((n) => inPath.includes(n));
  const content = (): RouteContent => {
    const schema = schemas.message(input, { without });
    return Object.fromEntries(MESSAGE_TYPES.map((type) => [type, schema]));
  };
  const takesBody = method === "post" && input.fields.length > without.length;
  return {
    method,
    path,
    tag,
    operationId: `${descriptor.name.charAt(0).toLowerCase()}${descriptor.name.slice(1)}`,
    summary,
    description: schemas.comment(`${descriptor.parent.typeName}.${descriptor.name}`),
    parameters: [...own, ...parameters],
    ...(takesBody && { body: { content: content(), ...(maxBytes && { maxBytes }) } }),
  };
}

async function readRequest<D extends DescMessage>(
  descriptor: D,
  context: Context,
  { binding, environment: { schemas, bodies } }: {
    readonly binding: RpcBinding;
    readonly environment: RpcEnvironment;
  },
): Promise<MessageShape<D>> {
  const fields = new Set(descriptor.fields.map(({ jsonName }) => jsonName));
  const params = Object.fromEntries(
    Object.entries(context.req.param()).filter(([name]) => fields.has(name)),
  );
  const query = new URL(context.req.url).searchParams;
  if (binding.method !== "post") {
    return requestMessage(descriptor, queryValue(descriptor, query), { schemas, params });
  }
  const text = await context.req.raw.text();
  const type = text.trim() === "" ? "" : mediaType(context.req.raw);
  return await bodies.read(descriptor, { text, type, params });
}
