import { join } from "node:path";
import { RunState, TrainerService } from "../../../proto/mod.ts";
import { createLogger } from "../../../base/mod.ts";
import { type GrpcClient, grpcClient, type Handlers, startGrpcServer } from "../../rpc/mod.ts";
import { fakeReward } from "./fake_reward.ts";
import { FakeTrainer } from "./fake_trainer.ts";

/** A trainer and two reward servers that compute nothing, on real sockets. */
export interface FakeStack extends AsyncDisposable {
  readonly trainer: FakeTrainer;
  /** A client of the trainer. */
  readonly client: GrpcClient<typeof TrainerService>;
  /** "host:port" of the trainer. */
  readonly address: string;
  /** "host:port" of the rewards "symmetry" and "clip". */
  readonly rewards: ReadonlyMap<string, string>;
  /** Folder of runs. */
  readonly runs: string;
  /** Takes a reward server away. */
  stopReward(name: string): Promise<void>;
}

/**
 * Starts a stack with one finished run, "foxes": 20 steps, the rewards swapped after 10.
 *
 * @param handlers of the trainer, in place of its own
 */
export async function startFakeStack(
  handlers: Partial<Handlers<typeof TrainerService>> = {},
): Promise<FakeStack> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  const runs = join(folder, "runs");
  const log = createLogger({ level: "silent" });
  const start = (service: Parameters<typeof startGrpcServer>[0]["services"][number]) =>
    startGrpcServer({ services: [service], port: 0, log });
  const names = ["symmetry", "clip"];
  const rewards = new Map(
    await Promise.all(names.map(async (name) => [name, await start(fakeReward(name))] as const)),
  );
  const addresses = new Map([...rewards].map(([name, { address }]) => [name, address]));
  const trainer = new FakeTrainer(runs, addresses, handlers);
  const server = await start(trainer.service);
  await trainer.add({
    id: "foxes",
    state: RunState.RUNNING,
    steps: 10,
    minutesAgo: 42,
    config: { iterations: 20, checkpointEvery: 10 },
  });
  trainer.swap("foxes", [
    { name: "symmetry", endpoint: addresses.get("symmetry") ?? "", weight: 2 },
  ]);
  for (let i = 0; i < 10; i++) await trainer.step("foxes");
  const client = grpcClient(TrainerService, server.address);
  return {
    trainer,
    client,
    address: server.address,
    rewards: addresses,
    runs,
    stopReward: async (name) => await rewards.get(name)?.stop({ drainSeconds: 0 }),
    async [Symbol.asyncDispose]() {
      trainer.close();
      client.close();
      await Promise.all(
        [server, ...rewards.values()].map((server) => server.stop({ drainSeconds: 0 })),
      );
      await Deno.remove(folder, { recursive: true });
    },
  };
}
