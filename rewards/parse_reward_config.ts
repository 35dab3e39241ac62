import { z } from "zod";
import { RewardConfigError } from "./errors.ts";
import { REWARD_KINDS, type RewardConfig } from "./registry.ts";

const SCHEMA = z.discriminatedUnion("kind", [
  REWARD_KINDS.aesthetic.schema,
  REWARD_KINDS.clip.schema,
  REWARD_KINDS.hpsv2.schema,
  REWARD_KINDS.jpeg.schema,
  REWARD_KINDS.owlvit.schema,
  REWARD_KINDS.pickscore.schema,
  REWARD_KINDS.symmetry.schema,
]);

/**
 * Checks a reward's configuration, as read from YAML or JSON, and fills in defaults. Throws `RewardConfigError` naming
 * the field, what was found and what was expected.
 */
export function parseRewardConfig(value: unknown): RewardConfig {
  const parsed = SCHEMA.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RewardConfigError(issue === undefined ? "Reward is not valid" : describe(issue, value));
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  const kinds = Object.keys(REWARD_KINDS).join(", ");
  if (issue.code === "unrecognized_keys") {
    const kind = at(value, ["kind"]);
    return `Reward has an unknown field "${issue.keys[0]}", which kind ${
      JSON.stringify(kind)
    } lacks`;
  }
  const field = issue.path.join(".");
  const found = at(value, issue.path);
  const shown = found === undefined ? "missing" : JSON.stringify(found)?.slice(0, 100);
  if (field === "kind") return `Reward field "kind" is ${shown}, expected one of ${kinds}`;
  if (field === "") return `Reward is ${shown}, expected an object with a kind, one of ${kinds}`;
  return `Reward field "${field}" is ${shown}, expected ${expectation(issue)}`;
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_value":
      return issue.values.map((v) => JSON.stringify(v)).join(" or ");
    case "invalid_type":
      return issue.expected === "int" ? "a whole number" : `a ${issue.expected}`;
    case "too_small":
      return `at least ${issue.minimum}`;
    case "too_big":
      return `at most ${issue.maximum}`;
    default:
      return issue.message;
  }
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (v, key) => typeof v === "object" && v !== null ? Reflect.get(v, key) : undefined,
    value,
  );
}
