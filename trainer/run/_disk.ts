import { isAbsent } from "./_if_absent.ts";
import { RunFileError } from "./run_errors.ts";

/**
 * Every place at which a run changes its folder, by name. `disk_faults_test.ts` lets each of them fail, do half of its
 * work, and be the last thing that a process does; it also keeps this list complete.
 */
export const DISK_POINTS = [
  ...["create.folder", "create.checkpoints", "create.samples", "create.clear"],
  ...["whole.open", "whole.write", "whole.flush", "whole.rename", "folder.flush"],
  ...["event.open", "event.write", "event.flush"],
  ...["checkpoint.folder", "checkpoint.lora", "checkpoint.optimizer", "checkpoint.more"],
  ...["checkpoint.rename"],
  ...["checkpoint.aside", "checkpoint.attempt"],
  ...["pictures.folder", "pictures.write"],
  ...["delete.rename", "delete.remove", "delete.leftover"],
] as const;

/** Places at which what failed is tidied up: they are reached after another fault only. */
export const TIDY_POINTS = [
  ...["create.tidy", "whole.tidy", "event.tidy", "checkpoint.tidy"],
] as const;

export type DiskPoint = typeof DISK_POINTS[number] | typeof TIDY_POINTS[number];

/** Stands between a point and what is done there, of which it may let a part be done, 0 to 1. */
export type DiskFault = <T>(point: DiskPoint, act: (part?: number) => Promise<T>) => Promise<T>;

let fault: DiskFault | undefined;

/** Every place at which a run's folder is read, by name. `read_faults_test.ts` lets each fail and keeps the list complete. */
export const READ_POINTS = [
  ...["store.list", "config.stat", "config.read", "log.read", "log.stat", "folder.open"],
  ...["checkpoints.list", "manifest.read", "checkpoint.digest", "checkpoint.tensors"],
  ...["attempt.digest", "attempts.list", "aside.stat", "plan.read"],
] as const;

export type ReadPoint = typeof READ_POINTS[number];

/** Told of each reading of a file or folder before it is done; what it throws is thrown in its place. */
export type ReadFault = (point: ReadPoint, path: string) => void;

let readFault: ReadFault | undefined;

/** For tests: lets a fault stand at all points of reading, or none. */
export function injectReadFault(injected: ReadFault | undefined): void {
  readFault = injected;
}

/**
 * Reads a file or folder of runs. Answers `absent`, where it is given, for one that is not there; throws `RunFileError`
 * naming the path where it cannot be read otherwise.
 */
export async function fromDisk<T, A = never>(
  point: ReadPoint,
  { path, absent }: { readonly path: string; readonly absent?: () => A },
  act: () => Promise<T>,
): Promise<T | A> {
  try {
    readFault?.(point, path);
    return await act();
  } catch (cause) {
    if (absent !== undefined && isAbsent(cause)) return absent();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RunFileError(`File ${path} cannot be read: ${reason}`, { cause });
  }
}

/** Does what changes a folder. A write writes the given part of its bytes, which is all but in tests. */
export function onDisk<T>(point: DiskPoint, act: (part?: number) => Promise<T>): Promise<T> {
  return fault === undefined ? act() : fault(point, act);
}

/** For tests: lets a fault stand at all points, or none. */
export function injectDiskFault(injected: DiskFault | undefined): void {
  fault = injected;
}

/** The first part of a text's bytes. */
export function partOf(text: string, part = 1): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return bytes.subarray(0, Math.floor(part * bytes.length));
}
