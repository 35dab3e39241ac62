import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type ErrorMap, StatusError, type StatusName, toStatusError } from "./errors.ts";
import type { CallContext, Handlers } from "./grpc_service.ts";
import { raceAbort } from "../../base/mod.ts";

/** A stream's messages that are at hand cross together, up to this many bytes. */
const BATCH_BYTES = 2 ** 16;

/** From the thread that answers to the one that works. A stream is pulled: one batch for each "next". */
type Order =
  & { readonly id: number }
  & (
    | { readonly kind: "call"; readonly method: string; readonly request: Uint8Array }
    | { readonly kind: "next" }
    | { readonly kind: "cancel"; readonly status: StatusName; readonly message: string }
  );

/** What comes back: responses, the end of a stream, or why there is none. */
type Reply =
  & { readonly id: number }
  & (
    | { readonly kind: "messages"; readonly responses: readonly Uint8Array[] }
    | { readonly kind: "end" }
    | {
      readonly kind: "error";
      readonly status: StatusName;
      readonly message: string;
      /** For the log. */
      readonly cause: string;
    }
  );

/**
 * Handlers that work in another thread, which `serveHandlers` at the other end of the port. Methods are unary or answer
 * with a stream. Nothing of the work keeps this thread from answering.
 */
export function remoteHandlers<S extends DescService>(
  descriptor: S,
  port: MessagePort,
): Handlers<S> {
  const waiting = new Map<number, (reply: Reply) => void>();
  let last = 0;
  port.onmessage = ({ data }: MessageEvent<Reply>) => waiting.get(data.id)?.(data);
  const reply = (id: number) => new Promise<Reply>((resolve) => waiting.set(id, resolve));
  const send = (order: Order) => port.postMessage(order);

  /** The responses of a call. */
  const call = async function* (
    method: DescMethod,
    request: Message,
    { signal }: CallContext,
  ): AsyncGenerator<Message> {
    const id = ++last;
    const bytes = toBinary(method.input, request);
    try {
      send({ id, kind: "call", method: method.localName, request: bytes });
      while (true) {
        const next = reply(id);
        send({ id, kind: "next" });
        const answer = await raceAbort(next, signal);
        if (answer.kind === "end") return;
        if (answer.kind === "error") {
          const options = answer.cause === "" ? {} : { cause: answer.cause };
          throw new StatusError(answer.status, answer.message, options);
        }
        for (const response of answer.responses) yield fromBinary(method.output, response);
      }
    } finally {
      waiting.delete(id);
      const why: unknown = signal.reason;
      const { status, message } = why instanceof StatusError
        ? why
        : new StatusError("CANCELLED", "Nobody waits for it");
      send({ id, kind: "cancel", status, message });
    }
  };

  const methods = descriptor.methods.map((method) => [
    method.localName,
    method.methodKind === "unary"
      ? async (request: Message, context: CallContext) => {
        for await (const response of call(method, request, context)) return response;
        throw new StatusError("INTERNAL", `Method ${method.name} ended without an answer`);
      }
      : (request: Message, context: CallContext) => call(method, request, context),
  ]);
  return Object.assign(Object.create(null), Object.fromEntries(methods));
}

/** Does the work of the `remoteHandlers` at the other end of the port. */
export function serveHandlers<S extends DescService>(
  descriptor: S,
  handlers: Handlers<S>,
  { port, mapError }: { readonly port: MessagePort; readonly mapError?: ErrorMap },
): void {
  const methods = new Map(descriptor.methods.map((method) => [method.localName, method]));
  const calls = new Map<number, { next(): Promise<void>; readonly controller: AbortController }>();
  const send = (reply: Reply) => port.postMessage(reply);

  const begin = (id: number, method: DescMethod, request: Uint8Array) => {
    const controller = new AbortController();
    const context: CallContext = {
      signal: controller.signal,
      peer: "this process",
      metadata: () => undefined,
    };
    const responses = responsesOf(handlers, method, {
      request: fromBinary(method.input, request),
      context,
    });
    /** Asked for already: it was not at hand when the batch before was sent. */
    let asked: ReturnType<typeof responses.next> | undefined;
    const take = () => {
      const next = asked ?? responses.next();
      asked = undefined;
      return next;
    };
    const next = async () => {
      try {
        const first = await take();
        if (first.done) return send({ id, kind: "end" });
        const batch = [encoded(method, first.value)];
        const late = new Promise<undefined>((resolve) => setTimeout(resolve));
        for (let bytes = batch[0]?.length ?? 0; bytes < BATCH_BYTES;) {
          asked = responses.next();
          // A failure is told when it is asked for again, and so is the end.
          const more = await Promise.race([asked.catch(() => undefined), late]);
          if (more === undefined || more.done) break;
          asked = undefined;
          const message = encoded(method, more.value);
          batch.push(message);
          bytes += message.length;
        }
        send({ id, kind: "messages", responses: batch });
      } catch (error) {
        const { status, message, cause } = toStatusError(error, mapError);
        const text = cause instanceof Error ? cause.stack ?? cause.message : String(cause ?? "");
        send({ id, kind: "error", status, message, cause: text });
      }
    };
    calls.set(id, { next, controller });
    controller.signal.addEventListener("abort", () => void responses.return(undefined));
  };

  port.onmessage = ({ data }: MessageEvent<Order>) => {
    const { id } = data;
    const method = data.kind === "call" ? methods.get(data.method) : undefined;
    if (data.kind === "call") {
      if (method) begin(id, method, data.request);
    } else if (data.kind === "next") void calls.get(id)?.next();
    else {
      calls.get(id)?.controller.abort(new StatusError(data.status, data.message));
      calls.delete(id);
    }
  };
}

function encoded(method: DescMethod, value: MessageInitShape<DescMessage>): Uint8Array {
  return toBinary(method.output, create(method.output, value));
}

type AnyHandler = (
  request: Message,
  context: CallContext,
) => Promise<MessageInitShape<DescMessage>> & AsyncIterable<MessageInitShape<DescMessage>>;

/** What a handler answers, one or many. */
async function* responsesOf(
  handlers: object,
  { localName, methodKind }: DescMethod,
  { request, context }: { readonly request: Message; readonly context: CallContext },
): AsyncGenerator<MessageInitShape<DescMessage>, void> {
  const handler: AnyHandler = Reflect.get(handlers, localName);
  if (methodKind === "unary") yield await handler(request, context);
  else yield* handler(request, context);
}
