import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { RunConfigSchema } from "../../proto/mod.ts";
import type { MessageSchemas, StatusName } from "../rpc/mod.ts";
import { editConfig, type EditedConfig } from "./edit_config.ts";
import { HttpError } from "./http_error.ts";
import { type BodyText, messageOf } from "./request_message.ts";

/** A body of more characters is read in a thread of its own: in YAML, and in JSON. */
const [LARGE_YAML, LARGE_JSON] = [2 ** 12, 2 ** 14];

/** What the thread is asked: for a message, by its full name, or for an edited configuration. */
export type BodyQuestion =
  & BodyText
  & { readonly id: number }
  & ({ readonly kind: "message"; readonly typeName: string } | { readonly kind: "edit" });

type Fault = {
  readonly code: StatusName;
  readonly message: string;
  readonly status: number;
  readonly field?: string;
  readonly line?: number;
};

/** What it answers: the message's encoding, of an edited configuration its text too, or what is wrong. */
export type BodyAnswer =
  & { readonly id: number }
  & ({ readonly message: Uint8Array<ArrayBuffer>; readonly yaml?: string } | {
    readonly error: Fault;
  });

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
    const large = body.type === "application/json" ? LARGE_JSON : LARGE_YAML;
    if (body.text.length <= large) return messageOf(descriptor, body, this.#schemas);
    const { typeName } = descriptor;
    const { message } = await this.#ask((id) => ({ ...body, id, kind: "message", typeName }));
    return fromBinary(descriptor, message);
  }

  /** `editConfig` of a body. Throws `HttpError`. */
  async edit(body: BodyText): Promise<EditedConfig> {
    if (body.text.length <= LARGE_YAML) return editConfig(body, this.#schemas);
    const { message, yaml = "" } = await this.#ask((id) => ({ ...body, id, kind: "edit" }));
    return { yaml, config: fromBinary(RunConfigSchema, message) };
  }

  async #ask(question: (id: number) => BodyQuestion) {
    const id = ++this.#last;
    const answer = Promise.withResolvers<BodyAnswer>();
    this.#waiting.set(id, answer);
    this.#thread ??= this.#start();
    this.#thread.postMessage(question(id));
    const answered = await answer.promise;
    if ("message" in answered) return answered;
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

/**
 * Answers a question, in the thread. Other errors than `HttpError` are the thread's.
 *
 * @param messages those that are asked for, by their full names
 */
export function answerBody(
  question: BodyQuestion,
  { messages, schemas }: {
    readonly messages: ReadonlyMap<string, DescMessage>;
    readonly schemas: MessageSchemas;
  },
): BodyAnswer {
  const { id } = question;
  try {
    if (question.kind === "edit") {
      const { yaml, config } = editConfig(question, schemas);
      return { id, yaml, message: toBinary(RunConfigSchema, config) };
    }
    const descriptor = messages.get(question.typeName);
    if (!descriptor) throw new TypeError(`No method takes a ${question.typeName}`);
    return { id, message: toBinary(descriptor, messageOf(descriptor, question, schemas)) };
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    const { code, message, status, field, line } = error;
    const details = { ...(field !== undefined && { field }), ...(line !== undefined && { line }) };
    return { id, error: { code, message, status, ...details } };
  }
}
