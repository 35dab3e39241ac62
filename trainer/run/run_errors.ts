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

/** A file of a run that cannot be read, which says nothing against it: it is left as it is. */
export class RunFileError extends Error {
  override readonly name: string = "RunFileError";
}

/** A checkpoint with a file whose digest is proven not to be the one that was written. */
export class DamagedCheckpointError extends RunFileError {
  override readonly name = "DamagedCheckpointError";
}

/** What a run needs is away: worth trying again. */
export class UnavailableError extends Error {
  override readonly name: string = "UnavailableError";
}
