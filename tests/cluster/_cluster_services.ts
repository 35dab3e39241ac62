import { trainerOptions, Victim } from "../fault/mod.ts";

/** Seconds after which a silent worker's job is another's. */
const SILENCE = 2;

/** A trainer over a folder of runs whose shards workers compute. */
export function startClusterTrainer(runs: string, nats: string): Victim {
  return new Victim("services/trainer/main.ts", [
    ...trainerOptions(runs),
    ...["--nats", nats, "--silence", String(SILENCE)],
  ]);
}

/** A worker. One thread, as the trainer. */
export function startWorker(
  nats: string,
  { name, models = "tests/golden", more = [] }: {
    readonly name: string;
    readonly models?: string;
    readonly more?: readonly string[];
  },
): Victim {
  return new Victim("services/worker/main.ts", [
    ...["--nats", nats, "--name", name, "--models", models, "--threads", "1"],
    ...more,
  ]);
}
