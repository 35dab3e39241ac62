import { Buffer } from "node:buffer";
import { z } from "zod";
import { BYTES_PER_ELEMENT, sizeOf, type Tensor, tensorOver } from "../autodiff/mod.ts";
import { bytesOf, isDType } from "./_tensor_bytes.ts";

/**
 * What the engine and its process exchange: a JSON message and tensors. On the wire, little-endian:
 *
 *     "DRT1" | u32 bytes of the header | header: JSON {message, tensors: [dtype, shape][]} | tensor data in order
 *
 * Each tensor is read into memory of its own, so it is aligned and lives no longer than it is used.
 */
export interface Frame {
  readonly message: unknown;
  readonly tensors: readonly Tensor[];
}

/** Reads exactly this many bytes; undefined when the stream ends before. */
export type ReadExactly = (length: number) => Promise<Uint8Array | undefined>;

const MAGIC = 0x31545244;
const PREFIX_BYTES = 8;
const MAX_HEADER_BYTES = 2 ** 24;
/** Far beyond what one call exchanges, far below what a corrupt header can ask for. */
const MAX_TENSOR_BYTES = 2 ** 35;
/** Parts smaller than this are joined: a system call costs more than the copy. */
const JOIN_BYTES = 2 ** 16;

const headerSchema = z.object({
  message: z.unknown(),
  tensors: z.array(
    z.tuple([z.string().refine(isDType), z.array(z.number().int().nonnegative())]),
  ),
});

/** The chunks to write for a frame, in order. Large tensors are not copied. */
export function encodeFrame({ message, tensors }: Frame): Uint8Array[] {
  const types = tensors.map(({ dtype, shape }) => [dtype, shape]);
  const header = Buffer.from(JSON.stringify({ message, tensors: types }));
  checkAtMost(MAX_HEADER_BYTES, header.length, "header");
  checkAtMost(MAX_TENSOR_BYTES, totalBytes(tensors.map((t) => t.data.byteLength)), "tensors");
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(MAGIC, 0);
  prefix.writeUInt32LE(header.length, 4);
  return joinSmall([prefix, header, ...tensors.map(bytesOf)]);
}

/** Reads a frame; undefined when the stream ends before it is complete. Throws when it is malformed. */
export async function readFrame(read: ReadExactly): Promise<Frame | undefined> {
  const prefix = await read(PREFIX_BYTES);
  if (!prefix) return undefined;
  const fields = Buffer.from(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  if (fields.readUInt32LE(0) !== MAGIC) {
    throw new TypeError(`Frame starts with '${fields.toString("latin1", 0, 4)}', expected DRT1`);
  }
  const headerBytes = fields.readUInt32LE(4);
  checkAtMost(MAX_HEADER_BYTES, headerBytes, "header");
  const header = await read(headerBytes);
  if (!header) return undefined;
  const { message, tensors: types } = headerSchema.parse(
    JSON.parse(new TextDecoder().decode(header)),
  );
  const sizes = types.map(([dtype, shape]) => sizeOf(shape) * BYTES_PER_ELEMENT[dtype]);
  checkAtMost(MAX_TENSOR_BYTES, totalBytes(sizes), "tensors");
  const tensors: Tensor[] = [];
  for (const [dtype, shape] of types) {
    const data = await read(sizeOf(shape) * BYTES_PER_ELEMENT[dtype]);
    if (!data) return undefined;
    tensors.push(tensorOver({ dtype, shape }, data));
  }
  return { message, tensors };
}

function totalBytes(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0);
}

function checkAtMost(limit: number, found: number, what: string): void {
  if (found > limit) throw new RangeError(`Frame ${what} has ${found} bytes, at most ${limit}`);
}

function joinSmall(parts: readonly Uint8Array[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const flush = () => {
    if (small.length > 0) chunks.push(Buffer.concat(small));
    small = [];
  };
  for (const part of parts) {
    if (part.length < JOIN_BYTES) {
      small.push(part);
    } else {
      flush();
      chunks.push(part);
    }
  }
  flush();
  return chunks;
}
