import { Buffer } from "node:buffer";
import { createGunzip, createInflate } from "node:zlib";
import { StatusError } from "./errors.ts";

/**
 * Inflates a message. Throws `StatusError` RESOURCE_EXHAUSTED as soon as more comes out than `maxBytes`, or than `hold`
 * takes, UNIMPLEMENTED for another encoding than "gzip" and "deflate", INVALID_ARGUMENT for what is neither.
 */
export async function decompress(
  message: Uint8Array,
  encoding: string,
  { maxBytes, hold }: { readonly maxBytes: number; readonly hold: (bytes: number) => void },
): Promise<Buffer> {
  if (encoding !== "gzip" && encoding !== "deflate") {
    throw new StatusError(
      "UNIMPLEMENTED",
      `Request is compressed by "${encoding}", expected gzip or deflate`,
    );
  }
  const stream = encoding === "gzip" ? createGunzip() : createInflate();
  const parts: Buffer[] = [];
  let total = 0;
  stream.end(message);
  try {
    for await (const part of stream) {
      const bytes = Buffer.from(part);
      total += bytes.length;
      if (total > maxBytes) {
        throw new StatusError(
          "RESOURCE_EXHAUSTED",
          `Received message that decompresses to a size larger than ${maxBytes}`,
        );
      }
      hold(bytes.length);
      parts.push(bytes);
    }
  } catch (cause) {
    if (cause instanceof StatusError) throw cause;
    throw new StatusError("INVALID_ARGUMENT", `Request is not ${encoding}`, { cause });
  } finally {
    stream.destroy();
  }
  // Bytes fields are views of it and must not be of the pool of `Buffer`.
  const whole = Buffer.from(new ArrayBuffer(total));
  let at = 0;
  for (const part of parts) at += part.copy(whole, at);
  return whole;
}
