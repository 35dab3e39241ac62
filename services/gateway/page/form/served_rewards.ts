import type { RewardDescription, RewardTerm, RewardTermJson, Service, Services } from "../types.ts";

/** A reward that some service offers. */
export interface ServedReward {
  /** "SERVER" or "SERVER/REWARD". */
  readonly key: string;
  /** What a term says to mean it; of a run's own term also what it reads in place of a prompt. */
  readonly term: {
    readonly name: string;
    readonly endpoint?: string;
    readonly reward?: string;
    readonly prompt?: string;
    readonly without?: readonly string[];
  };
  readonly service: Service;
  /** Undefined where its service does not answer. */
  readonly description: RewardDescription | undefined;
}

/** Which reward a term means. */
export type TermIdentity = Pick<RewardTermJson, "name" | "endpoint" | "reward">;

/**
 * The rewards that the gateway's services offer.
 *
 * @param known names that the trainer knows without an endpoint
 */
export function servedRewards(
  services: Services | undefined,
  known: readonly string[],
): ServedReward[] {
  return (services?.rewards ?? []).flatMap((service): ServedReward[] => {
    const { name, address, rewards = [] } = service;
    const isKnown = known.includes(name);
    if (rewards.length < 2) {
      const term = { name, ...(!isKnown && { endpoint: address }) };
      return [{ key: name, term, service, description: rewards[0] }];
    }
    return rewards.map((description) => ({
      key: `${name}/${description.name}`,
      term: { name: description.name, endpoint: address, reward: description.name },
      service,
      description,
    }));
  });
}

/** The served reward that a term means; undefined of one that the gateway does not know. */
export function servedAs(
  { name = "", endpoint = "", reward = "" }: TermIdentity,
  served: readonly ServedReward[],
): ServedReward | undefined {
  return served.find(({ service, term, description }) => {
    const isHere = endpoint === ""
      ? service.name === (name || reward)
      : service.address === endpoint;
    return isHere && (reward === "" ? term.reward === undefined : reward === description?.name);
  });
}

/**
 * The rewards of a run's mixture that are served, read as the run reads them, then all others.
 *
 * @param terms the mixture
 */
export function asMeasured(
  served: readonly ServedReward[],
  terms: readonly RewardTerm[],
): { readonly own: readonly ServedReward[]; readonly others: readonly ServedReward[] } {
  const found = new Set<ServedReward>();
  const own = terms.flatMap((term): ServedReward[] => {
    const reward = servedAs(term, served);
    if (reward === undefined) return [];
    found.add(reward);
    const { name, endpoint, reward: onServer, prompt, without } = term;
    return [{ ...reward, key: name, term: { name, endpoint, reward: onServer, prompt, without } }];
  });
  return { own, others: served.filter((reward) => !found.has(reward)) };
}

/** Which way is better, whether it answers, and what it looks at. */
export function rewardFacts(served: ServedReward | undefined): string {
  if (served === undefined) return "Not a service that this gateway knows.";
  const { service: { ready, reason }, description } = served;
  if (!ready || description === undefined) return `Does not answer: ${reason}`;
  return [
    `${betterOf(description)} is better`,
    description.readsPrompt ? "reads the prompt" : "looks at the image alone",
    "answers",
  ].join(", ");
}

/** "smaller" or "larger". */
export function betterOf({ direction }: Pick<RewardDescription, "direction">): string {
  return direction === "DIRECTION_MINIMISE" ? "smaller" : "larger";
}

/** What stands in a list of rewards to choose from. */
export function rewardLabel({ key, service, description }: ServedReward): string {
  if (!service.ready) return `${key} (does not answer)`;
  return description === undefined ? key : `${key} (${betterOf(description)} is better)`;
}
