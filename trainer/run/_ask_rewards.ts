import type { Combination } from "./combine.ts";
import type { Scoring } from "./_gallery.ts";
import type { Patience } from "./_patience.ts";
import type { RewardClients } from "./_reward_clients.ts";
import { RewardMixture, RewardUnavailableError } from "./reward_mixture.ts";
import type { RewardTerm } from "./run_config.ts";

interface Rewards {
  readonly clients: RewardClients;
  readonly patience: Patience;
}

interface Question<T> {
  readonly terms: readonly RewardTerm[];
  /** How they become one number. Default: their sum. */
  readonly combine?: Combination;
  readonly ask: (mixture: RewardMixture, signal: AbortSignal) => Promise<T>;
}

/** Asks rewards, and waits for those that are away until something else is wanted; see `Patience.until`. */
export async function askPatiently<T>(
  { clients, patience }: Rewards,
  { terms, combine, ask, isWanted }: Question<T> & { readonly isWanted: () => boolean },
): Promise<T> {
  return await patience.until({
    work: async (signal) => {
      try {
        const connected = await clients.connected(terms, signal);
        return await ask(new RewardMixture(connected, combine && { combine }), signal);
      } catch (error) {
        // What comes back may be another: it is asked for its facts again.
        await clients.close();
        throw error;
      }
    },
    ping: (ms) => clients.ping(terms, ms),
    isWanted,
  });
}

/** Asks rewards once. Throws `RewardUnavailableError` as soon as one is away or late. */
export async function askOnce<T>(
  { clients, patience }: Rewards,
  { terms, ask }: Question<T>,
): Promise<T> {
  return await patience.once({
    work: async (signal) =>
      await ask(new RewardMixture(await clients.connected(terms, signal)), signal),
    ping: (ms) => clients.ping(terms, ms),
  });
}

/** Scores by a mixture as it is now; none where a reward is away. */
export function scoresIfThere(rewards: Rewards, terms: readonly RewardTerm[]): Scoring {
  return async (images, prompts) => {
    try {
      return await askOnce(rewards, {
        terms,
        ask: (asked, signal) => asked.score(images, prompts, { signal }),
      });
    } catch (error) {
      if (error instanceof RewardUnavailableError) return {};
      throw error;
    }
  };
}
