import { cut, type LogFields, type Logger } from "../../base/mod.ts";
import { StatusError, type StatusName } from "../rpc/mod.ts";

/** What an error's answer holds beside its message. */
export interface HttpErrorDetails {
  /** HTTP status; by default the one that fits the code. */
  readonly status?: number;
  /** Field of the request that is wrong, as "config.lora.rank". */
  readonly field?: string;
  /** Line of the body the field stands on, from 1. */
  readonly line?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** UTF-16 units of a message and of a field's name that are told: both quote what was sent, which may be megabytes. */
const [MAX_MESSAGE, MAX_FIELD] = [2000, 200];

/** A request that cannot be answered as asked. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly field?: string;
  readonly line?: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(readonly code: StatusName, message: string, details: HttpErrorDetails = {}) {
    super(cut(message, MAX_MESSAGE), { cause: details.cause });
    this.status = details.status ?? HTTP_STATUS[code];
    if (details.field !== undefined) this.field = cut(details.field, MAX_FIELD);
    if (details.line !== undefined) this.line = details.line;
    this.headers = details.headers ?? {};
  }

  /** The body of every error's answer. */
  toJSON() {
    const { code, message, field, line } = this;
    return { error: { code, message, field, line } };
  }
}

/** Client Closed Request: nobody is left to read it, but logs and metrics should not say 500. */
const CLIENT_CLOSED_REQUEST = 499;

/** The HTTP status of a gRPC code. */
export const HTTP_STATUS: Readonly<Record<StatusName, number>> = {
  INVALID_ARGUMENT: 400,
  OUT_OF_RANGE: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  FAILED_PRECONDITION: 409,
  ABORTED: 409,
  RESOURCE_EXHAUSTED: 429,
  CANCELLED: CLIENT_CLOSED_REQUEST,
  UNKNOWN: 500,
  INTERNAL: 500,
  DATA_LOSS: 500,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

/**
 * What a caller is told about an error. The text of an unexpected one stays on this side, in the log, under an id that the
 * caller is told.
 *
 * @param log gets faults of the program
 * @param fields where that was
 */
export function toHttpError(error: unknown, log: Logger, fields: LogFields = {}): HttpError {
  const failure = httpErrorOf(error);
  if (failure.code === "INTERNAL") log.error(failure.message, { ...fields, cause: failure.cause });
  return failure;
}

function httpErrorOf(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof StatusError) return fromStatus(error);
  if (error instanceof DOMException && error.name === "AbortError") {
    return new HttpError("CANCELLED", "Cancelled by the caller");
  }
  return new HttpError("INTERNAL", `Internal error, logged with id ${crypto.randomUUID()}`, {
    cause: error,
  });
}

function fromStatus(error: StatusError): HttpError {
  const { status: code, message } = error;
  // A service that does not know the gateway: no token the caller could send would help.
  if (code === "UNAUTHENTICATED" || code === "PERMISSION_DENIED") {
    return new HttpError(code, `The service refused the gateway: ${message}`, { status: 502 });
  }
  const field = code === "INVALID_ARGUMENT" && /^Field ([\w.[\]]+) /.exec(message)?.[1];
  return new HttpError(code, message, { cause: error, ...(field && { field }) });
}
