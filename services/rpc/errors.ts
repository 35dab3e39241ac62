import { status } from "@grpc/grpc-js";
import { cut } from "../../base/mod.ts";

/** Name of a gRPC status code other than OK. */
export type StatusName = Exclude<keyof typeof status, "OK">;

/**
 * Longer messages are cut, in UTF-16 units and in bytes as they are sent, which are up to nine for each: many clients
 * refuse responses with more than 8 KiB of metadata.
 */
const MAX_MESSAGE_LENGTH = 2000;
const MAX_MESSAGE_BYTES = 6000;

/** A failure that a caller is told: a gRPC status and a message for people. The cause stays on this side. */
export class StatusError extends Error {
  override readonly name = "StatusError";

  constructor(readonly status: StatusName, message: string, options?: ErrorOptions) {
    super(sendable(message), options);
  }

  /** The status code's number on the wire. */
  get code(): status {
    return status[this.status];
  }
}

/** A message as it may stand in a header. The library throws where half of a character stands in it. */
function sendable(message: string): string {
  const whole = message.toWellFormed();
  let [length, text] = [MAX_MESSAGE_LENGTH, cut(whole, MAX_MESSAGE_LENGTH)];
  while (encodeURI(text).length > MAX_MESSAGE_BYTES) text = cut(whole, length = length >> 1);
  return text;
}

/** Turns the errors a domain knows into what a caller is told; undefined for those it does not know. */
export type ErrorMap = (error: unknown) => StatusError | undefined;

/** What a caller is told about an error. Unexpected ones become INTERNAL with an id; their text is for the log only. */
export function toStatusError(error: unknown, map?: ErrorMap): StatusError {
  if (error instanceof StatusError) return error;
  return map?.(error) ??
    new StatusError("INTERNAL", `Internal error, logged with id ${crypto.randomUUID()}`, {
      cause: error,
    });
}

/** The name of a status code; UNKNOWN for numbers that have none. */
export function statusName(code: number): StatusName {
  const name = status[code];
  return isStatusName(name) ? name : "UNKNOWN";
}

function isStatusName(name: string | undefined): name is StatusName {
  return name !== undefined && name !== "OK" && Object.hasOwn(status, name);
}
