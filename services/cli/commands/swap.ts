import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import {
  RewardMixtureSchema,
  type RewardTerm,
  SwapRewardResponseSchema,
} from "../../../proto/mod.ts";
import { type Arguments, type Command, UsageError } from "../command.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { runIdOf } from "./runs.ts";

/** Changes a run's reward mixture. */
export const swap: Command = {
  name: "swap",
  summary: "Change a run's rewards at its next step boundary",
  usage: "RUN (--set NAME [--at HOST:PORT] [--weight W] | --remove NAME | --mixture FILE)",
  options: {
    set: { type: "string", value: "NAME", help: "add this term, or change the one of its name" },
    at: {
      type: "string",
      value: "HOST:PORT",
      help: "its service (default: as it is, or where the trainer knows one of this name)",
    },
    reward: { type: "string", value: "NAME", help: "its name on that server (default: as it is)" },
    weight: { type: "string", value: "W", help: "its weight (default: as it is, or 1)" },
    prompt: {
      type: "string",
      value: "TEXT",
      help: 'what it reads, as "a photo of {prompt}" (default: as it is, or the prompt)',
    },
    without: {
      type: "string",
      value: "PHRASE",
      multiple: true,
      help: "taken out of the prompt before it is read; may be repeated (default: as it is)",
    },
    digest: { type: "string", value: "SHA256", help: "digest its weights must have" },
    remove: { type: "string", value: "NAME", help: "remove the term of this name" },
    mixture: {
      type: "string",
      value: "FILE",
      help: "replace all terms by the `rewards` of this YAML or JSON file",
    },
    ...TRAINER_OPTIONS,
  },
  examples: [
    "drtune swap books-1 --set clip --weight 0.5",
    "drtune swap books-1 --set pickscore --at 127.0.0.1:50054",
    "drtune swap books-1 --set hps --at grpcs://rewards.example.org:443",
    'drtune swap books-1 --set clip --without ", and books"',
    "drtune swap books-1 --remove objectness",
    "drtune swap books-1 --mixture configs/symmetry.yaml",
  ],
  async run(args, signal) {
    const runId = runIdOf(args);
    const ways = (["set", "remove", "mixture"] as const).filter((n) => args.text(n) !== undefined);
    if (ways.length !== 1) throw new UsageError("Give one of --set, --remove and --mixture");
    const client = await trainerClient(args);
    const call = { timeoutMs: 60_000, signal };
    try {
      const { run } = await client.getRun({ runId }, call);
      const change = ways[0] === "set"
        ? { case: "set" as const, value: termOf(args, run?.rewards ?? []) }
        : ways[0] === "remove"
        ? { case: "remove" as const, value: args.required("remove") }
        : { case: "mixture" as const, value: await readMixture(args.required("mixture")) };
      const answer = await client.swapReward({ runId, change }, call);
      console.log(
        args.flag("json")
          ? JSON.stringify(toJson(SwapRewardResponseSchema, answer))
          : `After step ${answer.step}: ${
            answer.rewards.map((r) => `${r.name} x ${r.weight ?? 1} at ${r.endpoint}`).join(", ")
          }`,
      );
      return 0;
    } finally {
      client.close();
    }
  },
};

/** The term that is there with what was given in its place, or a new one. */
function termOf(args: Arguments, present: readonly RewardTerm[]) {
  const name = args.required("set");
  const old = present.find((term) => term.name === name);
  const at = args.text("at");
  const reward = args.text("reward");
  // At another address the same name may be another reward, with other weights.
  const kept = at === undefined ? old : undefined;
  const { hinge, zScore } = old ?? {};
  const without = args.list("without");
  return {
    name,
    prompt: args.text("prompt") ?? old?.prompt ?? "",
    without: without.length > 0 ? [...without] : [...old?.without ?? []],
    ...(hinge !== undefined && { hinge }),
    ...(zScore !== undefined && { zScore }),
    endpoint: at ?? old?.endpoint ?? "",
    reward: reward ?? kept?.reward ?? "",
    weight: args.number("weight") ?? old?.weight ?? 1,
    expectedDigest: args.text("digest") ?? kept?.expectedDigest ?? "",
  };
}

async function readMixture(path: string) {
  try {
    const value: unknown = parse(await readFile(path, "utf8"));
    const rewards = typeof value === "object" && value !== null && "rewards" in value
      ? value.rewards
      : value;
    if (!Array.isArray(rewards)) throw new Error("expected a list `rewards`");
    const list: JsonValue[] = rewards;
    return fromJson(RewardMixtureSchema, { rewards: list });
  } catch (error) {
    throw new UsageError(`${path}: ${error instanceof Error ? error.message : error}`);
  }
}
