import { status } from "@grpc/grpc-js";

/** Name of a gRPC status code other than OK. */
export type StatusName = Exclude<keyof typeof status, "OK">;

/** Longer messages are cut: many clients refuse responses with more than 8 KiB of metadata. */
const MAX_MESSAGE_LENGTH = 2000;

/** A failure that a caller is told: a gRPC status and a message for people. The cause stays on this side. */
export class StatusError extends Error {
  override readonly name = "StatusError";

  constructor(readonly status: StatusName, message: string, options?: ErrorOptions) {
    super(
      message.length > MAX_MESSAGE_LENGTH ? `${message.slice(0, MAX_MESSAGE_LENGTH)}…` : message,
      options,
    );
  }

  /** The status code's number on the wire. */
  get code(): status {
    return status[this.status];
  }
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
