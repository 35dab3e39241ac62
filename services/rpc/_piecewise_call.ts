import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
} from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { Writable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { totalLength } from "./_encode_in_parts.ts";
import { HEAD_BYTES, MessageDecoder } from "./_message_decoder.ts";

/** Bytes handed on in one go: a fraction of a millisecond. */
const PIECE = 2 ** 18;

/** What a large message's encoding consists of, in order. */
const encodings = new WeakMap<object, readonly Uint8Array[]>();

/** Lets a message be sent as this encoding, of which nothing is copied before it is written. */
export function sendAs(message: object, parts: readonly Uint8Array[]): void {
  encodings.set(message, parts);
}

/**
 * A call whose large messages are received and sent in pieces, so that no other call waits while they are copied. The
 * gRPC library copies each whole, once when it has come and once before it is sent.
 */
export class PiecewiseCall extends ServerInterceptingCall {
  readonly #stream: Writable;
  readonly #maxMessageBytes: number;

  /** @param call the library's innermost, of which two fields are used here: nothing else leads to the stream */
  constructor(call: ServerInterceptingCallInterface, maxMessageBytes: number) {
    super(call);
    this.#stream = Reflect.get(call, "stream");
    this.#maxMessageBytes = maxMessageBytes;
    Reflect.set(call, "decoder", new MessageDecoder(maxMessageBytes));
  }

  override sendMessage(message: object, callback: () => void): void {
    const parts = encodings.get(message) ?? [];
    const length = totalLength(parts);
    // One that is too large the library refuses.
    if (length === 0 || length > this.#maxMessageBytes) super.sendMessage(message, callback);
    else void this.#send(parts, { length, callback });
  }

  async #send(
    parts: readonly Uint8Array[],
    { length, callback }: { readonly length: number; readonly callback: () => void },
  ): Promise<void> {
    this.sendMetadata(new Metadata());
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(length, 1);
    for (const part of [head, ...parts]) {
      for (let at = 0; at < part.length; at += PIECE) {
        // The call has ended meanwhile, by a deadline or its caller; as where the library sends, nobody is told.
        if (this.#stream.destroyed || this.#stream.writableEnded) return;
        this.#stream.write(part.subarray(at, at + PIECE));
        if (part.length - at > PIECE) await setImmediate();
      }
    }
    callback();
  }
}
