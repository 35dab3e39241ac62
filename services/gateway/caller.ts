import { HttpError } from "./http_error.ts";

/**
 * Aborts when the caller of a request leaves, with an `HttpError` CANCELLED. The server's own reason is a text, which no
 * handler of errors takes for one.
 */
export function callerSignal({ signal }: Request): AbortSignal {
  const gone = new AbortController();
  const leave = () => gone.abort(callerLeft(signal.reason));
  if (signal.aborted) leave();
  else signal.addEventListener("abort", leave, { once: true });
  return gone.signal;
}

/** What a request ends with that nobody waits for any more. */
export function callerLeft(cause: unknown): HttpError {
  return new HttpError("CANCELLED", "Cancelled by the caller", { cause });
}
