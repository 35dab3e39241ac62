import type { RewardDescription, RewardTermJson, Service, Services } from "../types.ts";

/** A reward that some service offers. */
export interface ServedReward {
  /** "SERVER" or "SERVER/REWARD". */
  readonly key: string;
  /** What a term says to mean it. */
  readonly term: { readonly name: string; readonly endpoint?: string; readonly reward?: string };
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
