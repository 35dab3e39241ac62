import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";

/** Bytes of a PNG file's signature and its header chunk, which comes first. */
const HEAD = 8 + 25;

/**
 * A PNG file with a text chunk behind its header: `tEXt` where all characters are ASCII, of which no reader
 * makes others, else `iTXt`. `keyword` is of 1 to 79 Latin letters.
 */
export function withPngText(
  png: Buffer,
  { keyword, text }: { readonly keyword: string; readonly text: string },
): Buffer {
  const isAscii = [...text].every((character) => (character.codePointAt(0) ?? 0) < 128);
  const [type, content] = isAscii
    ? ["tEXt", Buffer.from(`${keyword}\0${text}`, "latin1")]
    : ["iTXt", Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, "latin1"), Buffer.from(text)])];
  const named = Buffer.concat([Buffer.from(type, "latin1"), content]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(content.length);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([png.subarray(0, HEAD), length, named, check, png.subarray(HEAD)]);
}
