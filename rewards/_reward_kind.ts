import { z } from "zod";
import type { RewardDefinition } from "./_reward_definition.ts";

/** Where a kind finds its files. */
export interface OpenContext {
  /** An absolute path of a path in a configuration. */
  readonly resolve: (path: string) => string;
  /** Folder in which PyTorch files are kept converted. */
  readonly cacheDir: string;
}

/** The field every kind has: the name it is served under. Default: that of its kind. */
export const nameField = { name: z.string().min(1).max(64).optional() };

/** A row of the registry: the options of a kind of reward, and how to make its definition from them. */
export interface RewardKind<S extends z.ZodType> {
  readonly schema: S;
  /**
   * Reads configurations and headers of weights; `config` is checked against the schema.
   * Throws `WeightsError`, `ConfigError`, `TokenizerError` or `RewardConfigError`.
   */
  readonly open: (config: unknown, context: OpenContext) => Promise<RewardDefinition>;
}

/** A row from a schema and a function of what the schema lets through. */
export function rewardKind<S extends z.ZodType>({ schema, open }: {
  readonly schema: S;
  readonly open: (
    config: z.output<S>,
    context: OpenContext,
  ) => RewardDefinition | Promise<RewardDefinition>;
}): RewardKind<S> {
  return { schema, open: async (config, context) => await open(schema.parse(config), context) };
}
