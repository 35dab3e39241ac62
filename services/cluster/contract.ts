import { InputError } from "../../base/mod.ts";

/** Of the messages in proto/drtune/cluster/v1. Raised when the same message would mean something else. */
export const CONTRACT_VERSION = 1;

/** Where a worker tells of itself. */
export const HELLO_SUBJECT = "drtune.hello";
/** Between two such messages, in milliseconds. */
export const HELLO_MS = 1000;

/** The stream that keeps jobs until they are acknowledged. */
export const JOB_STREAM = "DRTUNE_JOBS";
/** All subjects of that stream. */
export const JOB_SUBJECTS = "drtune.job.*";

/** Where jobs of an epoch go. */
export const jobSubject = (epoch: string) => `drtune.job.${epoch}`;
/** Where results of an epoch go. */
export const resultSubject = (epoch: string) => `drtune.result.${epoch}`;
/** The consumer that hands out an epoch's jobs to the workers. */
export const consumerName = (epoch: string) => `workers-${epoch}`;

/** Throws `InputError` for a message of another version than this program's. `who` sent it. */
export function checkVersion(who: string, version: number): void {
  if (version === CONTRACT_VERSION) return;
  throw new InputError(
    `${who} speaks version ${version} of the cluster's messages, expected ${CONTRACT_VERSION}: ` +
      "run the same version of DRTune everywhere",
  );
}
