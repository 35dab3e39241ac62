import { InputError } from "../../base/mod.ts";
import {
  DamagedCheckpointError,
  MissingFileError,
  RewardRefusedError,
  RewardUnavailableError,
  RunConflictError,
  RunFileError,
  RunStateError,
  TooManyRunsError,
  UnknownRunError,
} from "../../trainer/mod.ts";
import { StatusError, type StatusName } from "../rpc/mod.ts";

/** What callers are told. */
export function trainerErrors(error: unknown): StatusError | undefined {
  if (error instanceof StatusError) return error;
  const as = (status: StatusName) =>
    new StatusError(status, error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  if (error instanceof UnknownRunError) return as("NOT_FOUND");
  if (error instanceof RunConflictError) return as("ALREADY_EXISTS");
  if (error instanceof RunStateError) return as("FAILED_PRECONDITION");
  if (error instanceof DamagedCheckpointError) return as("DATA_LOSS");
  if (error instanceof RunFileError) return as("FAILED_PRECONDITION");
  if (error instanceof TooManyRunsError || isDiskFull(error)) return as("RESOURCE_EXHAUSTED");
  if (error instanceof RewardRefusedError && error.cause instanceof StatusError) {
    return as(error.cause.status);
  }
  if (error instanceof RewardUnavailableError) return as("UNAVAILABLE");
  if (error instanceof MissingFileError) return as("NOT_FOUND");
  if (error instanceof InputError) return as("INVALID_ARGUMENT");
  if (error instanceof Deno.errors.NotFound) return as("NOT_FOUND");
  return undefined;
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    (error.code === "ENOSPC" || error.code === "EDQUOT");
}
