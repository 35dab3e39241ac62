/** A request that the state of a run does not allow. */
export class RunStateError extends Error {
  override readonly name = "RunStateError";
}

/** No run has this id. */
export class UnknownRunError extends Error {
  override readonly name = "UnknownRunError";
}

/** The same id with another configuration. */
export class RunConflictError extends Error {
  override readonly name = "RunConflictError";
}

/** No room for another run. */
export class TooManyRunsError extends Error {
  override readonly name = "TooManyRunsError";
}
