import assert from "node:assert/strict";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, finish, inFolder, isStep, result, until, world } from "../testing/run_world.ts";
import { RunStore } from "./mod.ts";

const REWARDS = { dark: new FakeReward(0.2), bright: new FakeReward(0.9) };
const [dark, bright] = ["dark", "bright"].map((name) => ({ name, endpoint: name }));

/** Each as a user writes it: a run with any of them goes on bit for bit. */
const MEASURES: Readonly<Record<string, object>> = {
  "a reward's prompt": { rewards: [{ ...dark, prompt: "a photo of {prompt}" }] },
  hinge: { rewards: [{ ...dark, hinge: 0.2 }] },
  "z-scores": { rewards: [{ ...dark, zScore: true }, { ...bright, zScore: true }] },
  "the worst reward": { combine: "min", rewards: [dark, bright] },
  "the mean reward": { combine: "mean", rewards: [dark, bright] },
  "perturbed copies": { perturb: { copies: 3, noise: 0.1 } },
  "a moving average": { lora: { ema: 0.5 } },
  "a hinge on the norm": { drift: { kind: "norm", weight: 5 } },
  "a reference that is reset": { drift: { weight: 5, resetEvery: 3 } },
  "a penalty on doubtful images": {
    drift: { weight: 5, gate: 0.5 },
    rewards: [dark, { ...bright, weight: 0 }],
  },
};

Deno.test("what is there against hacking changes a run, and goes on bit for bit", async (t) => {
  const trained = async (config: object, stopAt?: number) => {
    let bytes = "";
    await inFolder(async (root) => {
      const store = await RunStore.open(root, world(REWARDS));
      const { run } = await store.start("run", { ...CONFIG, ...config });
      if (stopAt === undefined) await until(run);
      else await until(run, isStep(stopAt));
      // Ends as on SIGTERM: the run is taken up again from its checkpoint by the next store.
      await store.close();
      if (stopAt !== undefined) await finish(root, REWARDS);
      bytes = await result(root);
    });
    return bytes;
  };
  const plain = await trained({});
  for (const [name, config] of Object.entries(MEASURES)) {
    await t.step(name, async () => {
      const whole = await trained(config);
      assert.ok(await trained(config, 5) === whole, "a run that went on differs");
      // The fake reward reads no prompt.
      assert.equal(whole === plain, name === "a reward's prompt");
    });
  }
});
