import { InputError } from "./input_error.ts";

/**
 * Text of a file that somebody wrote with whatever program: UTF-8 with or without its mark, or UTF-16 of either order with
 * its mark, as PowerShell and Excel write it. Throws `InputError` with `name` for anything else.
 */
export function decodeText(bytes: Uint8Array, name: string): string {
  const [first, second] = bytes;
  const encoding = first === 0xff && second === 0xfe
    ? "utf-16le"
    : first === 0xfe && second === 0xff
    ? "utf-16be"
    : "utf-8";
  let text: string;
  try {
    // The decoder drops the mark.
    text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new InputError(
      `${name} is not ${encoding.toUpperCase()}, expected UTF-8, or UTF-16 with its mark`,
      {
        cause,
      },
    );
  }
  if (!text.includes("\0")) return text;
  throw new InputError(`${name} holds NUL characters, expected UTF-8, or UTF-16 with its mark`);
}

/** The lines of a text file that are not empty, without the white space around them. Throws as `decodeText`. */
export function decodeLines(bytes: Uint8Array, name: string): string[] {
  return decodeText(bytes, name).split(/\r\n|\n|\r/).map((line) => line.trim()).filter(Boolean);
}
