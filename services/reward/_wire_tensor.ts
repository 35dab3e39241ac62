import { StatusError } from "../rpc/mod.ts";
import type { Images } from "../../rewards/mod.ts";
import { inChunks } from "./_in_chunks.ts";

/** Element types images travel in. */
export type WireDType = "float32" | "float16";

const BYTES: Readonly<Record<WireDType, number>> = { float32: 4, float16: 2 };

/** Images as they came: a claim about dtype and shape, and little-endian bytes. */
export interface WireImages {
  readonly dtype: WireDType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Checks what can be said without the pixels: rank, channels, sizes and byte count. Answers [B, 3, H, W]. */
export function checkShape(
  { dtype, shape, data }: WireImages,
  where: string,
): readonly [number, 3, number, number] {
  const dims = shape.join(", ");
  const [batch, channels, height, width] = shape.length === 3 ? [1, ...shape] : shape;
  if (
    shape.length < 3 || shape.length > 4 || channels !== 3 || batch === undefined ||
    height === undefined || width === undefined ||
    !shape.every((size) => Number.isSafeInteger(size) && size > 0)
  ) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `${where} has shape [${dims}], expected [B, 3, H, W] or [3, H, W]`,
    );
  }
  const expected = batch * 3 * height * width * BYTES[dtype];
  if (data.byteLength !== expected) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `${where} has ${data.byteLength} bytes; ${dtype} [${dims}] needs ${expected}`,
    );
  }
  return [batch, 3, height, width];
}

/** The images as float32 in memory of their own. Refuses NaN and infinities, naming the first. */
export async function decodeTensor(image: WireImages, where: string): Promise<Images> {
  const shape = checkShape(image, where);
  const width = BYTES[image.dtype];
  const data = new Float32Array(image.data.byteLength / width);
  await inChunks(data.length, (from, to) => {
    // The bytes may lie anywhere; numbers must not.
    const { buffer } = image.data.slice(width * from, width * to);
    data.set(image.dtype === "float32" ? new Float32Array(buffer) : new Float16Array(buffer), from);
    // Zero times a NaN or an infinity is NaN: one sum finds any, without a branch an element.
    let sum = 0;
    for (let i = from; i < to; i++) sum += 0 * (data[i] ?? 0);
    if (sum === 0) return;
    const at = from + data.subarray(from, to).findIndex((value) => !Number.isFinite(value));
    throw new StatusError(
      "INVALID_ARGUMENT",
      `${where} holds ${data[at]} at ${position(at, image.shape)}, expected finite values`,
    );
  });
  return { dtype: "float32", shape, data };
}

/** Values as little-endian bytes of that dtype. float32 is not copied. */
export async function encodeValues(values: Float32Array, dtype: WireDType): Promise<Uint8Array> {
  if (dtype === "float32") {
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const half = new Float16Array(values.length);
  await inChunks(values.length, (from, to) => half.set(values.subarray(from, to), from));
  return new Uint8Array(half.buffer);
}

function position(index: number, shape: readonly number[]): string {
  const at: number[] = [];
  for (const size of shape.toReversed()) {
    at.unshift(index % size);
    index = Math.floor(index / size);
  }
  return `[${at.join(", ")}]`;
}
