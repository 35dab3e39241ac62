import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerMethodDefinition,
  status,
} from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { ServerHttp2Stream } from "node:http2";
import { setImmediate as turn } from "node:timers/promises";
import { SMALL_BYTES } from "./_arriving_message.ts";
import { decompress } from "./_decompress.ts";
import { totalLength } from "./_encode_in_parts.ts";
import type { GuardedCall } from "./_guarded_call.ts";
import { HEAD_BYTES, MessageDecoder } from "./_message_decoder.ts";
import type { ServerGuard } from "./_server_guard.ts";
import { StatusError } from "./errors.ts";

/** Bytes handed on in one go: a fraction of a millisecond. */
const PIECE = 2 ** 18;

/** HTTP/2's error codes for a stream that ends early: nothing is wrong, and the other side is to stop. */
const [NO_ERROR, CANCEL] = [0, 8];

/** What a large message's encoding consists of, in order. */
const encodings = new WeakMap<object, readonly Uint8Array[]>();

/** Lets a message be sent as this encoding, of which nothing is copied before it is written. */
export function sendAs(message: object, parts: readonly Uint8Array[]): void {
  encodings.set(message, parts);
}

type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0];

/** How calls of a server are received and sent. */
export interface PiecewiseOptions {
  readonly guard: ServerGuard;
  readonly maxMessageBytes: number;
  /** Says why a call must not go on, by its method's path and its headers; no body has been read then. */
  readonly refuse: (path: string, headers: Metadata, peer: string) => StatusError | undefined;
}

/**
 * A call whose large messages are received and sent in pieces, so that no other call waits while they are copied: the
 * gRPC library copies each whole, once when it has come and once before it is sent. What it holds is counted, and it is
 * refused by its headers, before anything of its body is read.
 */
export class PiecewiseCall extends ServerInterceptingCall {
  readonly #call: ServerInterceptingCallInterface;
  readonly #method: ServerMethodDefinition<unknown, unknown>;
  readonly #options: PiecewiseOptions;
  readonly #stream: ServerHttp2Stream;
  readonly #decoder: MessageDecoder;
  readonly #guarded: GuardedCall | undefined;
  /** Why the call is refused; undefined for one that goes on. */
  #refusal: StatusError | undefined;
  #hasAll = false;
  /** Bytes of requests that have come and are not answered, oldest first, and by their undecoded form. */
  readonly #requests: { room: number; held: number }[] = [];

  /** @param call the library's innermost, of which four fields are used here: nothing else leads to the stream */
  constructor(
    call: ServerInterceptingCallInterface,
    method: ServerMethodDefinition<unknown, unknown>,
    options: PiecewiseOptions,
  ) {
    super(call);
    this.#call = call;
    this.#method = method;
    this.#options = options;
    this.#stream = Reflect.get(call, "stream");
    try {
      this.#guarded = options.guard.begin(call.getPeer(), (why) => this.#shed(why));
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      this.#refusal = error;
    }
    const guarded = this.#guarded;
    this.#stream.once("close", () => guarded?.end());
    this.#stream.once("finish", () => void this.#stopSender());
    this.#decoder = new MessageDecoder(options.maxMessageBytes, {
      ...(guarded && { room: guarded }),
      onRoom: () => this.#goOn(),
    });
    Reflect.set(call, "decoder", { write: (data: Buffer) => this.#take(data) });
    Reflect.set(
      call,
      "decompressMessage",
      (message: Buffer, encoding: string) => this.#decompress(message, encoding),
    );
  }

  override start(listener: Listener): void {
    super.start({
      onReceiveMetadata: (headers: Metadata) => {
        const { refuse } = this.#options;
        this.#refusal ??= refuse(this.#method.path, headers, this.#call.getPeer());
        if (this.#refusal) {
          const { code, message } = this.#refusal;
          this.sendStatus({ code, details: message });
        } else {
          if (!this.#method.requestStream) this.#guarded?.waits();
          listener.onReceiveMetadata(headers);
        }
      },
      onReceiveMessage: (message: unknown) => listener.onReceiveMessage(message),
      onReceiveHalfClose: () => {
        this.#hasAll = true;
        this.#guarded?.proceeds();
        listener.onReceiveHalfClose();
      },
      onCancel: () => listener.onCancel(),
    });
  }

  override startRead(): void {
    super.startRead();
    if (this.#decoder.isWaiting) this.#stream.pause();
  }

  override sendMessage(message: object, callback: () => void): void {
    let parts = encodings.get(message);
    try {
      parts ??= [this.#method.responseSerialize(message)];
    } catch {
      // The library finds the same, and says so.
      return super.sendMessage(message, callback);
    }
    const length = totalLength(parts);
    // The library refuses a message that is too large.
    if (length > this.#options.maxMessageBytes) return super.sendMessage(message, callback);
    this.#answered();
    try {
      if (length > SMALL_BYTES) this.#guarded?.hold(length);
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      return this.sendStatus({ code: error.code, details: error.message });
    }
    void this.#send(parts, { length, callback });
  }

  async #send(
    parts: readonly Uint8Array[],
    { length, callback }: { readonly length: number; readonly callback: () => void },
  ): Promise<void> {
    this.sendMetadata(new Metadata());
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(length, 1);
    const stream = this.#stream;
    for (const part of [head, ...parts]) {
      for (let at = 0; at < part.length; at += PIECE) {
        // The call has ended meanwhile, by a deadline or its caller; as where the library sends, nobody is told.
        if (stream.destroyed || stream.writableEnded) return;
        const flows = stream.write(part.subarray(at, at + PIECE));
        if (length <= SMALL_BYTES) continue;
        if (flows) await turn();
        else {
          this.#guarded?.waits();
          await drained(stream);
          this.#guarded?.moved(Math.min(PIECE, part.length - at));
        }
      }
    }
    if (length > SMALL_BYTES) {
      this.#guarded?.proceeds();
      this.#guarded?.release(length);
    }
    callback();
  }

  /** The library's decoder, in its place. */
  #take(data: Buffer): Buffer[] {
    const guarded = this.#guarded;
    if (this.#method.requestStream && !this.#decoder.isWithin) guarded?.waits();
    guarded?.moved(data.length);
    // The library answers with the message of what this throws.
    const messages = this.#decoder.write(data);
    for (const { length } of messages) {
      const held = length > SMALL_BYTES ? length : 0;
      this.#requests.push({ room: held, held });
    }
    if (this.#decoder.isWaiting) {
      guarded?.proceeds();
      this.#stream.pause();
    } else if (this.#method.requestStream && !this.#decoder.isWithin) guarded?.proceeds();
    return messages;
  }

  /** Called when there is room for the request that had to wait. */
  #goOn(): void {
    if (this.#stream.destroyed) return;
    this.#guarded?.waits();
    this.#stream.emit("data", this.#decoder.takeRest());
    if (!this.#decoder.isWaiting) this.#stream.resume();
  }

  /** In a stream each answer lets the oldest request go; elsewhere there is one, until the end. */
  #answered(): void {
    if (!this.#method.requestStream) return;
    const request = this.#requests.shift();
    if (request === undefined) return;
    this.#guarded?.release(request.held);
    this.#guarded?.unreserve(request.room);
  }

  /** As the library does it, but what comes out is counted too. */
  async #decompress(message: Buffer, encoding: string): Promise<Buffer> {
    const body = message.subarray(HEAD_BYTES);
    if (encoding === "identity") return body;
    const request = this.#requests.at(-1);
    try {
      return await decompress(body, encoding, {
        maxBytes: this.#options.maxMessageBytes,
        hold: (bytes) => {
          this.#guarded?.hold(bytes);
          if (request) request.held += bytes;
        },
      });
    } catch (error) {
      const { code, message } = error instanceof StatusError
        ? error
        : { code: status.INVALID_ARGUMENT, message: "Request cannot be decompressed" };
      throw { code, details: message };
    }
  }

  #shed({ code, message }: StatusError): void {
    const stream = this.#stream;
    if (stream.destroyed) return;
    // Of an answer that nobody takes, the end would not be taken either.
    if (stream.headersSent) stream.close(CANCEL);
    else this.sendStatus({ code, details: message });
  }

  /** Tells a caller that still sends to stop, once what it is told is on its way. */
  async #stopSender(): Promise<void> {
    await turn();
    const stream = this.#stream;
    if (!this.#hasAll && !stream.destroyed && !stream.closed) stream.close(NO_ERROR);
  }
}

/** Resolves when more may be written, or the stream is over. */
function drained(stream: ServerHttp2Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => {
    stream.off("drain", done);
    stream.off("close", done);
    resolve();
  };
  stream.once("drain", done);
  stream.once("close", done);
  return promise;
}
