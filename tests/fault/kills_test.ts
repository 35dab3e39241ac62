import { killReward } from "./kill_reward.ts";
import { type KillOptions, killTrainer } from "./kill_trainer.ts";

const KILLS: Readonly<Record<string, (options: KillOptions) => Promise<unknown>>> = {
  trainer: killTrainer,
  "reward server": killReward,
  "reward server over TLS": (options) => killReward({ ...options, overTls: true }),
};

// `deno task fault` kills more often.
for (const [name, kill] of Object.entries(KILLS)) {
  Deno.test(`A ${name} killed at random instants costs no bit of the LoRA`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "drtune-fault-" });
    try {
      await kill({ kills: 2, seed: 1, folder, say: () => {} });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
