import {
  type RewardClient,
  RewardRefusedError,
  type RewardTerm,
  RewardUnavailableError,
  type RunConfig,
} from "../../trainer/mod.ts";
import { orSilence } from "../../base/mod.ts";
import { type ClientTls, RemoteReward, StatusError, type StatusName } from "../rpc/mod.ts";

/** Faults that pass, by themselves or when somebody mends the reward: the run waits. Others end it. */
const PASSING: ReadonlySet<StatusName> = new Set<StatusName>([
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
  "ABORTED",
  "INTERNAL",
  "UNKNOWN",
]);

/** It answers, and is not the reward that is wanted. */
const REFUSED: ReadonlySet<StatusName> = new Set<StatusName>(["NOT_FOUND", "FAILED_PRECONDITION"]);

/** Tries of one call, within the deadline, before the run pauses. */
const RETRY = { attempts: 6, initialMs: 100, maxMs: 2000 };

/** Deadlines: a large reward may take minutes for a batch, its facts are at hand. */
const [CALL_MS, CONNECT_MS] = [300_000, 15_000];

/**
 * Connects a term of a mixture to its service. Throws `RewardUnavailableError` where it does not answer.
 *
 * @param tls for endpoints that begin with "grpcs://"
 * @param timeoutMs deadline of one call, retries included
 */
export async function connectReward(
  term: RewardTerm,
  { tls, timeoutMs = CALL_MS }: { readonly tls?: ClientTls; readonly timeoutMs?: number } = {},
): Promise<RewardClient> {
  const where = `Reward ${term.name} at ${term.endpoint}`;
  const translated = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (cause) {
      if (!(cause instanceof StatusError)) throw cause;
      const message = `${where}: ${cause.message}`;
      throw PASSING.has(cause.status)
        ? new RewardUnavailableError(message, { cause })
        : REFUSED.has(cause.status)
        ? new RewardRefusedError(message, { cause })
        : new StatusError(cause.status, message, { cause });
    }
  };
  const { reward, expectedDigest, endpoint } = term;
  const remote = await translated(
    RemoteReward.connect(endpoint, {
      reward,
      expectedDigest,
      timeoutMs,
      connectMs: CONNECT_MS,
      retry: RETRY,
      ...(tls && { tls }),
    }),
  );
  const { direction, digest } = remote.info;
  return {
    direction,
    digest,
    score: (images, prompts, { gradient, signal }) =>
      translated(
        remote.score(images, prompts, { gradient, ...(signal && { signal }) }),
      ),
    close: () => remote.dispose(),
  };
}

/**
 * Asks a configuration's rewards for their facts. Throws what a reward that answers says against it; one that does not
 * answer soon may do so later.
 */
export async function checkRewards(
  { rewards, panel }: RunConfig,
  connect: (term: RewardTerm) => Promise<RewardClient>,
): Promise<void> {
  const terms = [...rewards, ...panel.rewards.map((reward) => ({ ...reward, weight: 0 }))];
  const checked = Promise.all(terms.map(async (term) => {
    try {
      const client = await connect(term);
      await client.close();
    } catch (error) {
      if (error instanceof RewardRefusedError || !(error instanceof RewardUnavailableError)) {
        throw error;
      }
    }
  }));
  // After its time nobody asks how it ended.
  checked.catch(() => {});
  await orSilence(checked, CHECK_MS);
}

/** How long the rewards of a new run are waited for. */
const CHECK_MS = 5_000;
