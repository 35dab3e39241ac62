import type { z } from "zod";
import { nearest } from "../base/mod.ts";
import { RewardConfigError } from "./errors.ts";
import { REWARD_KINDS, type RewardConfig, type RewardKindName } from "./registry.ts";

/**
 * Checks a reward's configuration, as read from YAML or JSON, and fills in defaults. Throws `RewardConfigError` naming
 * the field, what was found and what was expected.
 */
export function parseRewardConfig(value: unknown): RewardConfig {
  const kind = at(value, ["kind"]);
  if (!isKind(kind)) {
    const [what, found] = typeof value === "object" && value !== null
      ? [`field "kind" is ${show(kind)}`, "one of"]
      : [`is ${show(value)}`, "an object with a kind, one of"];
    const meant = typeof kind === "string" ? nearest(kind, Object.keys(REWARD_KINDS)) : undefined;
    const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
    throw new RewardConfigError(
      `Reward ${what}, expected ${found} ${Object.keys(REWARD_KINDS).join(", ")}${hint}`,
    );
  }
  const parsed = REWARD_KINDS[kind].schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RewardConfigError(issue === undefined ? "Reward is not valid" : describe(issue, value));
}

function isKind(kind: unknown): kind is RewardKindName {
  return typeof kind === "string" && Object.hasOwn(REWARD_KINDS, kind);
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === "unrecognized_keys") {
    const kind = show(at(value, ["kind"]));
    return `Reward has an unknown field "${issue.keys[0]}", which kind ${kind} lacks`;
  }
  const found = show(at(value, issue.path));
  return `Reward field "${issue.path.join(".")}" is ${found}, expected ${expectation(issue)}`;
}

function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value)?.slice(0, 100) ?? typeof value;
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_value":
      return issue.values.map((v) => JSON.stringify(v)).join(" or ");
    case "invalid_type":
      return issue.expected === "int" ? "a whole number" : `a ${issue.expected}`;
    case "too_small":
      return issue.origin === "string"
        ? "text that is not empty"
        : `${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`;
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
