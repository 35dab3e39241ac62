import {
  type ConnectedTerm,
  type RewardClient,
  RewardRefusedError,
  type RewardTerm,
  RewardUnavailableError,
  type RunConfig,
} from "../../trainer/mod.ts";
import { type ClientTls, RemoteReward, StatusError, type StatusName } from "../rpc/mod.ts";

/**
 * What a status from a reward means for a run. "waits": it passes, by itself or when somebody mends the reward.
 * "refused": what answers is not the reward that is wanted, which may come back. "ends": waiting would not mend it.
 */
export const MEANINGS = {
  CANCELLED: "waits",
  UNKNOWN: "waits",
  INVALID_ARGUMENT: "ends",
  DEADLINE_EXCEEDED: "waits",
  NOT_FOUND: "refused",
  ALREADY_EXISTS: "ends",
  PERMISSION_DENIED: "ends",
  RESOURCE_EXHAUSTED: "waits",
  FAILED_PRECONDITION: "refused",
  ABORTED: "waits",
  OUT_OF_RANGE: "ends",
  UNIMPLEMENTED: "ends",
  INTERNAL: "waits",
  UNAVAILABLE: "waits",
  DATA_LOSS: "waits",
  UNAUTHENTICATED: "ends",
} as const satisfies Record<StatusName, "waits" | "refused" | "ends">;

/** Tries of one call, within the deadline, before the run pauses. */
const RETRY = { attempts: 6, initialMs: 100, maxMs: 2000 };

/** Deadlines: a large reward may take minutes for a batch, its facts are at hand. */
const [CALL_MS, CONNECT_MS] = [300_000, 15_000];

/**
 * Connects a term of a mixture to its service, or its replicas. Throws `RewardUnavailableError` where none answers, and the
 * signal's reason when that aborts.
 *
 * @param tls for endpoints that begin with "grpcs://"
 * @param timeoutMs deadline of one call, retries included
 */
export async function connectReward(
  term: RewardTerm,
  { tls, timeoutMs = CALL_MS, signal, onSetAside }: {
    readonly tls?: ClientTls;
    readonly timeoutMs?: number;
    readonly signal?: AbortSignal | undefined;
    /** Told of replicas whose weights are not those of the others; see `RemoteRewardOptions`. */
    readonly onSetAside?: (message: string) => void;
  } = {},
): Promise<RewardClient> {
  const where = `Reward ${term.name} at ${term.endpoint}`;
  const translated = async <T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
    try {
      return await work;
    } catch (cause) {
      // Who asked has gone.
      signal?.throwIfAborted();
      if (!(cause instanceof StatusError)) throw cause;
      const message = `${where}: ${cause.message}`;
      switch (MEANINGS[cause.status]) {
        case "waits":
          throw new RewardUnavailableError(message, { cause });
        case "refused":
          throw new RewardRefusedError(message, { cause });
        case "ends":
          throw new StatusError(cause.status, message, { cause });
      }
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
      ...(signal && { signal }),
      ...(onSetAside && { onSetAside }),
    }),
    signal,
  );
  return {
    get direction() {
      return remote.info.direction;
    },
    get digest() {
      return remote.info.digest;
    },
    score: (images, prompts, { gradient, signal }) =>
      translated(
        remote.score(images, prompts, { gradient, ...(signal && { signal }) }),
        signal,
      ),
    ping: async (signal) => {
      await translated(remote.refresh({ timeoutMs: CONNECT_MS, signal }), signal);
    },
    close: () => remote.dispose(),
  };
}

/** Connects all terms of a mixture, or none: where one fails, those that answered are closed again. */
export async function connectAll(
  terms: readonly RewardTerm[],
  connect: (term: RewardTerm) => Promise<RewardClient>,
): Promise<ConnectedTerm[]> {
  const connecting = terms.map(async (term) => ({ term, client: await connect(term) }));
  try {
    return await Promise.all(connecting);
  } catch (error) {
    for (const one of connecting) void one.then(({ client }) => client.close()).catch(() => {});
    throw error;
  }
}

/**
 * Asks a configuration's rewards for their facts. Throws what a reward that answers says against it; one that does not
 * answer soon may do so later.
 */
export async function checkRewards(
  { rewards, panel }: RunConfig,
  connect: (term: RewardTerm, signal: AbortSignal) => Promise<RewardClient>,
): Promise<void> {
  const signal = AbortSignal.timeout(CHECK_MS);
  const terms = [...rewards, ...panel.rewards.map((reward) => ({ ...reward, weight: 0 }))];
  await Promise.all(terms.map(async (term) => {
    try {
      const client = await connect(term, signal);
      await client.close();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof RewardRefusedError || !(error instanceof RewardUnavailableError)) {
        throw error;
      }
    }
  }));
}

/** How long the rewards of a new run are waited for. */
const CHECK_MS = 5_000;
