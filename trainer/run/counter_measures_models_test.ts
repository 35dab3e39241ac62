import assert from "node:assert/strict";
import { FakeReward } from "../testing/fake_reward.ts";
import { inFolder, until } from "../testing/run_world.ts";
import {
  openRunModel,
  prepareRunConfig,
  readCheckpoint,
  type RunDependencies,
  RunStore,
} from "./mod.ts";

const root = new URL("../../tests/golden", import.meta.url).pathname;

/** All at once, on real networks. */
const CONFIG = {
  prompts: ["a red cat\ta cat", "books, red\tbooks"],
  rewards: [
    { name: "dark", endpoint: "0.2", zScore: true, prompt: "{2} of {prompt}" },
    { name: "grey", endpoint: "0.5", zScore: true, hinge: 0.001, without: [" red"] },
    { name: "bright", endpoint: "0.9", weight: 0 },
  ],
  combine: "min",
  perturb: { copies: 2, noise: 0.05 },
  drift: { kind: "norm", weight: 5, resetEvery: 1, gate: 0.5 },
  method: { name: "drtune", k: 1, m: 1 },
  sampler: { steps: 2 },
  guidance: { scale: 3 },
  lora: { rank: 2, ema: 0.5 },
  batch: { size: 2 },
  latentHeight: 8,
  latentWidth: 8,
  sampleEvery: 0,
  checkpointEvery: 0,
  memoryLimit: 4,
};

for (const model of ["tiny-sd", "flow/tiny-sd3"]) {
  Deno.test(`what is there against hacking works together, and goes on bit for bit: ${model}`, () =>
    inFolder(async (folder) => {
      const dependencies: RunDependencies = {
        prepare: (value) => prepareRunConfig(value, { root }),
        openModel: async (config) => {
          const opened = await openRunModel(config, { root, session: { intraOpNumThreads: 1 } });
          // Nobody reads an estimate here, and measuring speeds takes longer than the run.
          const { plan: _, ...others } = opened;
          return others;
        },
        connect: ({ endpoint }) => Promise.resolve(new FakeReward(Number(endpoint))),
      };
      const store = await RunStore.open(folder, dependencies);
      const [whole, parts] = await Promise.all([["whole", 2], ["parts", 1]].map(
        async ([id, iterations]) =>
          (await store.start(String(id), { ...CONFIG, model, iterations })).run,
      ));
      assert.ok(whole && parts);
      for (const run of [whole, parts]) {
        await until(run);
        assert.equal(run.state, "finished", String(run.log.lastState?.reason));
      }
      await store.resume("parts", 2);
      await until(parts);
      const [a, b] = await Promise.all(
        [whole, parts].map((r) => readCheckpoint(r.folder.checkpoints, 2)),
      );
      await store.close();
      assert.deepEqual(a, b);
      assert.ok(a?.average !== undefined && a.reference !== undefined);
      assert.deepEqual(a.reference, a.parameters);
      assert.notDeepEqual(a.average, a.parameters);
      const [step] = whole.log.events.flatMap((e) => e.type === "step" ? e : []);
      assert.deepEqual(step?.prompts.toSorted(), CONFIG.prompts);
      assert.ok((step?.gradNorm ?? 0) > 0);
    }));
}
