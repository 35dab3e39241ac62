import { type RewardClient, type RewardTerm, RewardUnavailableError } from "../../trainer/mod.ts";
import { RemoteReward, StatusError, type StatusName } from "../common/mod.ts";

/** Faults that pass by themselves: the run waits. Others end it. */
const PASSING: ReadonlySet<StatusName> = new Set<StatusName>([
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
  "ABORTED",
]);

/** Tries of one call, within the deadline, before the run pauses. */
const RETRY = { attempts: 6, initialMs: 100, maxMs: 2000 };

/** Connects a term of a mixture to its service. Throws `RewardUnavailableError` where it does not answer. */
export async function connectReward(term: RewardTerm, timeoutMs = 120_000): Promise<RewardClient> {
  const where = `Reward ${term.name} at ${term.endpoint}`;
  const translated = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (cause) {
      if (!(cause instanceof StatusError)) throw cause;
      const message = `${where}: ${cause.message}`;
      throw PASSING.has(cause.status)
        ? new RewardUnavailableError(message, { cause })
        : new StatusError(cause.status, message, { cause });
    }
  };
  const { reward, expectedDigest, endpoint } = term;
  const remote = await translated(
    RemoteReward.connect(endpoint, { reward, expectedDigest, timeoutMs: 15_000, retry: RETRY }),
  );
  const { direction, digest } = remote.info;
  return {
    direction,
    digest,
    score: (images, prompts, { gradient, signal }) =>
      translated(
        remote.score(images, prompts, {
          gradient,
          signal: AbortSignal.any([
            AbortSignal.timeout(timeoutMs),
            ...(signal === undefined ? [] : [signal]),
          ]),
        }),
      ),
    close: () => remote.dispose(),
  };
}
