import { HttpError } from "./http_error.ts";

/** Reads a body's lines as they come. Throws `HttpError` 413 for a line of more than `maxBytes`. */
export async function* readLines(
  body: ReadableStream<Uint8Array> | null,
  { maxBytes }: { readonly maxBytes: number },
): AsyncIterable<string> {
  if (body === null) return;
  const decoder = new TextDecoder();
  let parts: Uint8Array[] = [];
  let size = 0;
  const take = () => {
    const line = parts.map((part) => decoder.decode(part, { stream: true })).join("") +
      decoder.decode();
    [parts, size] = [[], 0];
    return line;
  };
  for await (const chunk of body) {
    let from = 0;
    for (let end; (end = chunk.indexOf(NEWLINE, from)) >= 0; from = end + 1) {
      parts.push(chunk.subarray(from, end));
      yield take();
    }
    const rest = chunk.subarray(from);
    size += rest.length;
    if (size > maxBytes) {
      const message = `A line is longer than ${maxBytes} bytes`;
      throw new HttpError("RESOURCE_EXHAUSTED", message, { status: 413 });
    }
    parts.push(rest);
  }
  if (size > 0) yield take();
}

const NEWLINE = 10;
