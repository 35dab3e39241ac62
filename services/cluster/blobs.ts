import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createInbox, type Msg, type NatsConnection } from "@nats-io/transport-node";
import { cut } from "../../base/mod.ts";
import { type Blob, BlobSchema, type Piece, PieceSchema } from "../../proto/mod.ts";

/** Bytes of one answer: NATS' messages are 1 MiB at most unless its configuration says otherwise. */
const PIECE_BYTES = 512 * 1024;
/** Pieces of one blob that are asked for at a time. */
const WINDOW = 4;
/** A piece that is not answered within this time is asked for again, in milliseconds. */
const PIECE_MS = 2_000;
/** A blob of which nothing arrives for this long is given up, in milliseconds. */
const SILENCE_MS = 8_000;
/** Slower owners are given up, in bytes a second, once the time of a silence is over. */
const MIN_BYTES_PER_SECOND = 2 ** 16;
/** Larger ones are a mistake. */
const MAX_BYTES = 2 ** 32;

/** A blob cannot be had: its owner does not answer, or has it no more. */
export class BlobError extends Error {
  override readonly name = "BlobError";
}

/** Keeps blobs and answers those who ask for pieces of them. */
export class BlobKeeper {
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #subject = createInbox("drtune.blob");

  constructor(nats: NatsConnection) {
    nats.subscribe(this.#subject, {
      callback: (error, message) => {
        if (error === null) this.#answer(message);
      },
    });
  }

  /** Keeps bytes until they are dropped. They must not change. */
  async keep(bytes: Uint8Array<ArrayBuffer>): Promise<Blob> {
    const sha256 = await sha256Of(bytes);
    this.#blobs.set(sha256, bytes);
    return create(BlobSchema, { sha256, size: BigInt(bytes.length), subject: this.#subject });
  }

  drop({ sha256 }: Pick<Blob, "sha256">): void {
    this.#blobs.delete(sha256);
  }

  #answer(message: Msg): void {
    let piece: Piece;
    try {
      piece = fromBinary(PieceSchema, message.data);
    } catch {
      // Of a stranger. What is thrown here would end the connection, and with it the process.
      return;
    }
    const { sha256, offset, length } = piece;
    const start = Number(offset);
    const end = start + Math.min(length, PIECE_BYTES);
    message.respond(this.#blobs.get(sha256)?.subarray(start, end));
  }
}

/**
 * A blob's bytes, whose digest is checked. Pieces are asked for by the one who wants them, a few at a time, so that
 * nobody is sent more than it takes. Outlives a restart of NATS. Throws `BlobError`, or the signal's reason.
 */
export async function fetchBlob(
  nats: NatsConnection,
  { sha256, size, subject }: Blob,
  { maxBytes = MAX_BYTES, signal }: {
    /** The size is a claim, and its memory is asked for before anything comes. */
    readonly maxBytes?: number;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  if (size < 0 || size > maxBytes) {
    throw new BlobError(`Blob ${cut(sha256, 64)} has ${size} bytes, expected 0 to ${maxBytes}`);
  }
  const bytes = new Uint8Array(Number(size));
  const length = Math.min(PIECE_BYTES, nats.info?.max_payload ?? PIECE_BYTES);
  const begun = performance.now();
  let [next, heard] = [0, begun];
  const ask = async (question: Uint8Array): Promise<Uint8Array> => {
    for (;;) {
      signal?.throwIfAborted();
      try {
        return (await nats.request(subject, question, { timeout: PIECE_MS })).data;
      } catch (cause) {
        if (performance.now() - heard > SILENCE_MS) {
          throw new BlobError(`Blob ${sha256}: its owner does not answer`, { cause });
        }
        await new Promise((wait) => setTimeout(wait, 100));
      }
    }
  };
  const lane = async () => {
    while (next < bytes.length) {
      const offset = next;
      next += length;
      const question = create(PieceSchema, { sha256, offset: BigInt(offset), length });
      const piece = await ask(toBinary(PieceSchema, question));
      if (piece.length !== Math.min(length, bytes.length - offset)) {
        throw new BlobError(`Blob ${sha256}: its owner has it no more`);
      }
      bytes.set(piece, offset);
      heard = performance.now();
      if (heard - begun > SILENCE_MS + 1000 * bytes.length / MIN_BYTES_PER_SECOND) {
        throw new BlobError(
          `Blob ${sha256}: its owner sends less than ${MIN_BYTES_PER_SECOND} bytes a second`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: WINDOW }, lane));
  const found = await sha256Of(bytes);
  if (found === sha256) return bytes;
  throw new BlobError(`Blob ${sha256} has sha256 ${found}`);
}

/** sha256 (hex), computed outside JavaScript: a package's own in JavaScript takes some hundred times as long. */
async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
