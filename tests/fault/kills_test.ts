import { killReward } from "./kill_reward.ts";
import { killTrainer } from "./kill_trainer.ts";

// `deno task fault` kills more often.
for (const [name, kill] of Object.entries({ trainer: killTrainer, "reward server": killReward })) {
  Deno.test(`A ${name} killed at random instants costs no bit of the LoRA`, async () => {
    const runs = await Deno.makeTempDir({ prefix: "drtune-fault-" });
    try {
      await kill({ kills: 2, seed: 1, runs, say: () => {} });
    } finally {
      await Deno.remove(runs, { recursive: true });
    }
  });
}
