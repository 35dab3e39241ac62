import type { TrainerService } from "../../../proto/mod.ts";
import type { Reward } from "../../../rewards/mod.ts";
import type { PromptReading } from "../../../trainer/mod.ts";
import { type GrpcClient, RemoteReward } from "../../rpc/mod.ts";
import { KEEPALIVE } from "../check_answers.ts";
import { type Arguments, UsageError } from "../command.ts";
import { Judges } from "../judge/judges.ts";
import { localRewards } from "../score/rewards.ts";
import { tlsOf } from "../tls_options.ts";
import type { Contestant } from "./contestants.ts";

/** A reward on a server, as `--reward NAME[/REWARD]=HOST:PORT` names it. */
export interface NamedReward {
  readonly name: string;
  readonly reward: string;
  readonly endpoint: string;
}

/** Reads `--reward NAME[/REWARD]=HOST:PORT`; undefined where it is of another form. */
export function namedReward(text: string): NamedReward | undefined {
  const [, name, reward = "", endpoint] = /^([^=/{]+)(?:\/([^=]+))?=(.+:\d+)$/.exec(text) ?? [];
  return name === undefined || endpoint === undefined ? undefined : { name, reward, endpoint };
}

/**
 * The rewards that judge a comparison: those of `--reward` (on a server, or loaded here by kind or record) and of
 * `--rewards FILE`; where none is named those of the runs that are compared, which read what the run has them read. Throws
 * `UsageError` where there are none.
 */
export async function judgesOf(
  args: Arguments,
  { contestants, trainer, signal }: {
    readonly contestants: readonly Contestant[];
    readonly trainer: () => Promise<GrpcClient<typeof TrainerService>>;
    readonly signal: AbortSignal;
  },
): Promise<Judges> {
  const words = args.list("reward");
  const remote = words.flatMap((word) => namedReward(word) ?? []);
  const local = words.filter((word) => namedReward(word) === undefined);
  const readings = new Map<string, PromptReading>();
  if (words.length === 0 && args.text("rewards") === undefined) {
    for (const contestant of contestants) {
      if (contestant.kind !== "run") continue;
      const client = await trainer();
      const { run } = await client.getRun({ runId: contestant.runId }, { signal });
      for (const { name, reward, endpoint, prompt, without } of run?.rewards ?? []) {
        if (remote.some((known) => known.name === name)) continue;
        remote.push({ name, reward, endpoint });
        readings.set(name, { ...(prompt !== "" && { prompt }), without });
      }
    }
    if (remote.length === 0) {
      throw new UsageError(
        "Name what is to judge: --reward NAME=HOST:PORT, --reward KIND or --rewards FILE",
      );
    }
  }
  const opened = new Map<string, Reward>();
  try {
    for (const { name, reward, endpoint } of remote) {
      const { address, tls } = await tlsOf(args, endpoint);
      const options = { timeoutMs: 600_000, retry: { attempts: 4 }, keepalive: KEEPALIVE, tls };
      opened.set(name, await RemoteReward.connect(address, { ...options, reward }));
    }
    if (local.length > 0 || args.text("rewards") !== undefined) {
      for (const reward of await localRewards(args, local)) {
        const { name } = reward.info;
        if (opened.has(name)) throw new UsageError(`Two rewards are called ${name}`);
        opened.set(name, reward);
      }
    }
  } catch (error) {
    await Promise.all([...opened.values()].map((reward) => reward.dispose()));
    throw error;
  }
  return new Judges(opened, readings);
}
