import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { StatusName } from "../rpc/mod.ts";
import type { MessageSchemas } from "../rpc/mod.ts";
import { HttpError } from "./http_error.ts";
import { camelCased, parseBody, requestMessage } from "./request_message.ts";

/** A body of more characters is read in a thread of its own. */
const LARGE = 2 ** 18;

/** A body, and what it is to become. */
export interface BodyText {
  readonly text: string;
  /** Its media type. */
  readonly type: string;
  /** Fields that the path says. */
  readonly params?: Readonly<Record<string, string>>;
}

/** What the thread is asked. */
export interface BodyQuestion extends BodyText {
  readonly id: number;
  /** Full name of the message. */
  readonly typeName: string;
}

/** What it answers: the message's encoding, or what is wrong. */
export type BodyAnswer =
  & { readonly id: number }
  & (
    | { readonly message: Uint8Array }
    | {
      readonly error: {
        readonly code: StatusName;
        readonly message: string;
        readonly status: number;
        readonly field?: string;
        readonly line?: number;
      };
    }
  );

/**
 * Reads bodies into messages. A large one takes hundreds of milliseconds to be parsed, checked and decoded, so that is
 * done in a thread of its own, one after another: whoever else asks does not wait for it.
 */
export class BodyReader {
  readonly #schemas: MessageSchemas;
  #thread: Worker | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<BodyAnswer>>();
  #last = 0;

  constructor(schemas: MessageSchemas) {
    this.#schemas = schemas;
  }

  /** The message that a body says; an empty body says nothing. Throws `HttpError`. */
  async read<D extends DescMessage>(descriptor: D, body: BodyText): Promise<MessageShape<D>> {
    if (body.text.length <= LARGE) return messageOf(descriptor, body, this.#schemas);
    const id = ++this.#last;
    const answer = Promise.withResolvers<BodyAnswer>();
    this.#waiting.set(id, answer);
    const question: BodyQuestion = { ...body, id, typeName: descriptor.typeName };
    this.#thread ??= this.#start();
    this.#thread.postMessage(question);
    const answered = await answer.promise;
    if ("message" in answered) return fromBinary(descriptor, answered.message);
    const { code, message, ...details } = answered.error;
    throw new HttpError(code, message, details);
  }

  /** Ends the thread; bodies in it are refused. */
  close(): void {
    this.#thread?.terminate();
    this.#thread = undefined;
    for (const { reject } of this.#waiting.values()) {
      reject(new HttpError("UNAVAILABLE", "The gateway is stopping"));
    }
    this.#waiting.clear();
  }

  #start(): Worker {
    const thread = new Worker(new URL("./body_thread_main.ts", import.meta.url), {
      type: "module",
    });
    thread.onmessage = ({ data }: MessageEvent<BodyAnswer>) => {
      this.#waiting.get(data.id)?.resolve(data);
      this.#waiting.delete(data.id);
    };
    thread.onerror = (event) => {
      // Such as out of memory: these are refused, the next has a new thread.
      event.preventDefault();
      this.#thread = undefined;
      thread.terminate();
      for (const { reject } of this.#waiting.values()) {
        reject(new HttpError("RESOURCE_EXHAUSTED", "Body cannot be read here", { status: 413 }));
      }
      this.#waiting.clear();
    };
    return thread;
  }
}

/** The message that a body says. Throws `HttpError`. */
export function messageOf<D extends DescMessage>(
  descriptor: D,
  { text, type, params = {} }: BodyText,
  schemas: MessageSchemas,
): MessageShape<D> {
  const value = camelCased(text.trim() === "" ? {} : parseBody(text, type), descriptor);
  return requestMessage(descriptor, value, { schemas, params, text });
}

/** Answers a question, in the thread. Other errors than `HttpError` are the thread's. */
export function answerBody(
  descriptor: DescMessage,
  { id, ...body }: BodyQuestion,
  schemas: MessageSchemas,
): BodyAnswer {
  try {
    return { id, message: toBinary(descriptor, messageOf(descriptor, body, schemas)) };
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    const { code, message, status, field, line } = error;
    const details = { ...(field !== undefined && { field }), ...(line !== undefined && { line }) };
    return { id, error: { code, message, status, ...details } };
  }
}
