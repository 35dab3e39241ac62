import { InputError } from "../base/mod.ts";

/** A request that a reward cannot score: wrong shape, value, prompt or option. The message names the field. */
export class RewardInputError extends InputError {
  override readonly name = "RewardInputError";
}

/** A reward configuration that asks for something unknown or impossible. The message names the field. */
export class RewardConfigError extends InputError {
  override readonly name = "RewardConfigError";
}

/** A reward whose weights were read but whose gradient failed the check made on load. */
export class SelfCheckError extends Error {
  override readonly name = "SelfCheckError";
}
