/**
 * The long fault tests: `deno task fault --kills 50`. The same ones run with few kills in the test suite.
 */
import { parseArgs } from "node:util";
import { killReward } from "./kill_reward.ts";
import { killTrainer } from "./kill_trainer.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "50" },
    seed: { type: "string", default: "1" },
  },
});
const [kills, seed] = [Number(values.kills), Number(values.seed)];

for (const [name, kill] of Object.entries({ trainer: killTrainer, "reward server": killReward })) {
  if (kills === 0) continue;
  const begun = performance.now();
  const folder = await Deno.makeTempDir({ prefix: "drtune-fault-" });
  const runs = await kill({ kills, seed, runs: folder, say: (line) => console.log(`  ${line}`) });
  await Deno.remove(folder, { recursive: true });
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  console.log(
    `${kills} kill -9 of the ${name} in ${runs} runs: every LoRA as undisturbed (${seconds} s)`,
  );
}
