/** Rewards as a run sees them: the connection of a mixture's term to its server. */
export * from "./reward_client.ts";
