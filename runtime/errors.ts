/** What went wrong, for callers that turn errors into a status. */
export const RUNTIME_ERROR_CODES = [
  /** The model's bytes are not an ONNX model this build can run. */
  "model_invalid",
  /** A weight file is missing, truncated, or outside its root. */
  "weights_invalid",
  /** The execution provider is not in this build or finds no device. */
  "provider_unavailable",
  /** A feed is missing, unknown, or of another dtype or shape than the model declares. */
  "feed_invalid",
  /** A fetch names no output of the model. */
  "fetch_invalid",
  /** ONNX Runtime failed while running the model. */
  "run_failed",
  /** A tensor holds NaN or an infinity. */
  "non_finite",
  /** The session or the engine was closed before the call could run. */
  "closed",
  /** The engine's process ended on its own. */
  "engine_crashed",
] as const;

/** See `RUNTIME_ERROR_CODES`. */
export type RuntimeErrorCode = (typeof RUNTIME_ERROR_CODES)[number];

/** An error of the runtime; `code` says which kind. */
export class RuntimeError extends Error {
  override readonly name: string = "RuntimeError";

  constructor(readonly code: RuntimeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** A tensor holds NaN or an infinity. */
export class NumericalError extends RuntimeError {
  override readonly name = "NumericalError";

  constructor(
    message: string,
    /** Where the first such element is: its position in the flat data, and what it is. */
    readonly at: {
      readonly tensor: string;
      readonly index: number;
      readonly value: number;
    },
  ) {
    super("non_finite", message);
  }
}

/** The engine's child process ended on its own. The engine is of no further use. */
export class EngineCrashedError extends RuntimeError {
  override readonly name = "EngineCrashedError";

  constructor(
    message: string,
    /** Exit code, the signal that ended the process if one did, and the last lines it wrote to stderr. */
    readonly exit: {
      readonly code: number;
      readonly signal: string | null;
      readonly stderr: readonly string[];
    },
    options?: ErrorOptions,
  ) {
    super("engine_crashed", message, options);
  }
}
