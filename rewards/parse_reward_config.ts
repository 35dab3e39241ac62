import { checkValue, nearest, shown, valueAt } from "../base/mod.ts";
import { RewardConfigError } from "./errors.ts";
import { REWARD_KINDS, type RewardConfig, type RewardKindName } from "./registry.ts";

/**
 * Checks a reward's configuration, as read from YAML or JSON, and fills in defaults. Throws `RewardConfigError` naming
 * the field, what was found and what was expected.
 */
export function parseRewardConfig(value: unknown): RewardConfig {
  const kind = valueAt(value, ["kind"]);
  if (!isKind(kind)) {
    const [what, found] = typeof value === "object" && value !== null
      ? [`field "kind" is ${shown(kind)}`, "one of"]
      : [`is ${shown(value)}`, "an object with a kind, one of"];
    const meant = typeof kind === "string" ? nearest(kind, Object.keys(REWARD_KINDS)) : undefined;
    const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
    throw new RewardConfigError(
      `Reward ${what}, expected ${found} ${Object.keys(REWARD_KINDS).join(", ")}${hint}`,
    );
  }
  const checked = checkValue(REWARD_KINDS[kind].schema, value);
  if (checked.fault === undefined) return checked.data;
  const { path, message } = checked.fault;
  throw new RewardConfigError(`Reward field "${path.join(".")}" ${message}`);
}

function isKind(kind: unknown): kind is RewardKindName {
  return typeof kind === "string" && Object.hasOwn(REWARD_KINDS, kind);
}
