import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { SerialQueue } from "../../base/mod.ts";
import { RunConfigSchema, type ScoreRequest, ScoreRequestSchema } from "../../proto/mod.ts";
import type { MessageSchemas, StatusName } from "../rpc/mod.ts";
import { editConfig, type EditedConfig } from "./edit_config.ts";
import { HttpError } from "./http_error.ts";
import { type BodyText, messageOf } from "./request_message.ts";
import { readScoreForm, type ScoreForm } from "./score_form.ts";

/** A body of more characters is read in a thread of its own: in YAML, and in JSON. */
const [LARGE_YAML, LARGE_JSON] = [2 ** 12, 2 ** 14];

/** What the thread is asked: for a message, by its full name, for an edited configuration, or for what a form says. */
export type BodyQuestion =
  | BodyText & { readonly kind: "message"; readonly typeName: string }
  | BodyText & { readonly kind: "edit" }
  | ScoreForm & { readonly kind: "form" };

type Fault = {
  readonly code: StatusName;
  readonly message: string;
  readonly status: number;
  readonly field?: string;
  readonly line?: number;
};

/** What it answers: the message's encoding, of an edited configuration its text too, or what is wrong. */
export type BodyAnswer =
  | { readonly message: Uint8Array<ArrayBuffer>; readonly yaml?: string }
  | { readonly error: Fault };

/**
 * Reads bodies into messages. A large one takes hundreds of milliseconds to be parsed, checked and decoded, so that is
 * done in a thread of its own, one after another: whoever else asks does not wait for it. The thread has one at a time, so
 * that it is known which one was too much for it.
 */
export class BodyReader {
  readonly #schemas: MessageSchemas;
  readonly #queue = new SerialQueue();
  #thread: Worker | undefined;
  /** Of the body that the thread has, or had last. */
  #answer: PromiseWithResolvers<BodyAnswer> | undefined;

  constructor(schemas: MessageSchemas) {
    this.#schemas = schemas;
  }

  /** The message that a body says; an empty body says nothing. Throws `HttpError`. */
  async read<D extends DescMessage>(descriptor: D, body: BodyText): Promise<MessageShape<D>> {
    const large = body.type === "application/json" ? LARGE_JSON : LARGE_YAML;
    if (body.text.length <= large) return messageOf(descriptor, body, this.#schemas);
    const { typeName } = descriptor;
    const { message } = await this.#ask({ ...body, kind: "message", typeName });
    return fromBinary(descriptor, message);
  }

  /** `editConfig` of a body. Throws `HttpError`. */
  async edit(body: BodyText): Promise<EditedConfig> {
    if (body.text.length <= LARGE_YAML) return editConfig(body, this.#schemas);
    const { message, yaml = "" } = await this.#ask({ ...body, kind: "edit" });
    return { yaml, config: fromBinary(RunConfigSchema, message) };
  }

  /** What a form asks to have scored. Throws `HttpError`. */
  async form(form: ScoreForm): Promise<ScoreRequest> {
    if (form.bytes.length <= LARGE_JSON) return await readScoreForm(form);
    const { message } = await this.#ask({ ...form, kind: "form" });
    return fromBinary(ScoreRequestSchema, message);
  }

  async #ask(question: BodyQuestion) {
    const answered = await this.#queue.add(() => {
      this.#thread ??= this.#start();
      this.#thread.postMessage(question, "bytes" in question ? [question.bytes.buffer] : []);
      this.#answer = Promise.withResolvers();
      return this.#answer.promise;
    });
    if ("message" in answered) return answered;
    const { code, message, ...details } = answered.error;
    throw new HttpError(code, message, details);
  }

  /** Ends the thread; bodies in it are refused. */
  close(): void {
    const reason = new HttpError("UNAVAILABLE", "The gateway is stopping");
    this.#queue.close(reason);
    this.#answer?.reject(reason);
    this.#thread?.terminate();
    this.#thread = undefined;
  }

  #start(): Worker {
    const thread = new Worker(new URL("./body_thread_main.ts", import.meta.url), {
      type: "module",
    });
    thread.onmessage = ({ data }: MessageEvent<BodyAnswer>) => this.#answer?.resolve(data);
    thread.onerror = (event) => {
      // A fault of ours, such as out of memory: the next body has a new thread.
      event.preventDefault();
      this.#thread = undefined;
      thread.terminate();
      this.#answer?.reject(new Error(`The thread that reads bodies ended: ${event.message}`));
    };
    return thread;
  }
}

/**
 * Answers a question, in the thread. Other errors than `HttpError` are the thread's.
 *
 * @param messages those that are asked for, by their full names
 */
export async function answerBody(
  question: BodyQuestion,
  { messages, schemas }: {
    readonly messages: ReadonlyMap<string, DescMessage>;
    readonly schemas: MessageSchemas;
  },
): Promise<BodyAnswer> {
  try {
    if (question.kind === "edit") {
      const { yaml, config } = editConfig(question, schemas);
      return { yaml, message: toBinary(RunConfigSchema, config) };
    }
    if (question.kind === "form") {
      return { message: toBinary(ScoreRequestSchema, await readScoreForm(question)) };
    }
    const descriptor = messages.get(question.typeName);
    if (!descriptor) throw new TypeError(`No method takes a ${question.typeName}`);
    return { message: toBinary(descriptor, messageOf(descriptor, question, schemas)) };
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    const { code, message, status, field, line } = error;
    const details = { ...(field !== undefined && { field }), ...(line !== undefined && { line }) };
    return { error: { code, message, status, ...details } };
  }
}
