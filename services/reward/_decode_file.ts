import sharp from "sharp";
import type { Images } from "../../rewards/mod.ts";
import { StatusError } from "../common/mod.ts";
import { inChunks } from "./_in_chunks.ts";

/** Size of an image file, from its header. */
export interface FileSize {
  readonly height: number;
  readonly width: number;
}

const SIGNATURES: readonly (readonly number[])[] = [
  [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], // PNG
  [0xff, 0xd8, 0xff], // JPEG
];

// Each file is decoded once: a cache would only hold memory.
sharp.cache(false);

/** Reads the header of a PNG or JPEG file. Decodes nothing. */
export async function fileSize(file: Uint8Array, where: string): Promise<FileSize> {
  if (!SIGNATURES.some((signature) => signature.every((byte, i) => file[i] === byte))) {
    throw new StatusError("INVALID_ARGUMENT", `${where} is neither a PNG nor a JPEG file`);
  }
  try {
    const { height, width } = await sharp(file, { limitInputPixels: false }).metadata();
    return { height, width };
  } catch (cause) {
    throw broken(where, cause);
  }
}

/**
 * Decodes a PNG or JPEG file to [1, 3, H, W] in [0, 1], its 8-bit RGB values / 255. The same as the rewards'
 * `decodeImage`, but in steps that leave the thread free for other calls.
 */
export async function decodeFile(
  file: Uint8Array,
  { size, where }: { readonly size: FileSize; readonly where: string },
): Promise<Images> {
  const pixels = size.height * size.width;
  const rgb = await sharp(file, { limitInputPixels: pixels, failOn: "truncated", ignoreIcc: true })
    .removeAlpha().toColourspace("srgb").raw({ depth: "uchar" }).toBuffer()
    .catch((cause) => {
      throw broken(where, cause);
    });
  if (rgb.length !== 3 * pixels) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `${where} decodes to ${rgb.length} bytes; its header says ${size.width} x ${size.height}`,
    );
  }
  const data = new Float32Array(3 * pixels);
  await inChunks(pixels, (from, to) => {
    for (let i = from; i < to; i++) {
      for (let c = 0; c < 3; c++) data[c * pixels + i] = (rgb[3 * i + c] ?? 0) / 255;
    }
  });
  return { dtype: "float32", shape: [1, 3, size.height, size.width], data };
}

function broken(where: string, cause: unknown): StatusError {
  const reason = cause instanceof Error ? cause.message.trim() : String(cause);
  return new StatusError("INVALID_ARGUMENT", `${where} cannot be decoded: ${reason}`, { cause });
}
