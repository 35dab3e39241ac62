import assert from "node:assert/strict";
import { fakeModel, FakeReward } from "../testing/mod.ts";
import { CONFIG, inFolder, isState, until, world } from "../testing/run_world.ts";
import { RunStore, type ServedRun, type TrainingRun, UnavailableError } from "./mod.ts";

const REWARDS = { dark: new FakeReward(0.2) };

/** States and reasons of a run, in their order. */
const told = ({ log }: TrainingRun) =>
  log.events.flatMap((e) => e.type === "state" ? `${e.state} ${e.reason}`.trim() : []);

Deno.test("what is said of workers while a run waits or stops does not hide that it does", async () => {
  await inFolder(async (root) => {
    const begun = Promise.withResolvers<ServedRun>();
    const taken = () => Promise.reject(new UnavailableError("No worker has joined"));
    const store = await RunStore.open(root, {
      ...world(REWARDS),
      workers: {
        begin: (run) => {
          begun.resolve(run);
          const offer = () => ({ taken, withdraw: () => Promise.resolve() });
          return Promise.resolve({ offer, close: () => Promise.resolve() });
        },
      },
    });
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    const { say } = await begun.promise;
    await until(run, isState("paused"));
    await say("Unequal hardware");
    const stopping = run.stop();
    await Promise.all([say("More of it"), stopping]);
    await until(run);
    await say("Too late");
    assert.deepEqual(told(run), [
      "queued",
      "running",
      "paused No worker has joined",
      "paused No worker has joined; Unequal hardware",
      "stopping",
      "stopping More of it",
      "stopped",
    ]);
    await store.close();
  });
});

Deno.test("a run that is stopped while prompts are encoded is not said to run when they are", async () => {
  const now = performance.now.bind(performance);
  let late = 0;
  performance.now = () => now() + late;
  try {
    await inFolder(async (root) => {
      const opened = fakeModel();
      const { model } = opened;
      const prompts = {
        encode: model.prompts.encode.bind(model.prompts),
        prepare: async (_: readonly string[], tell?: (done: number) => Promise<void>) => {
          late += 60_000;
          await tell?.(1);
          await run.stop();
        },
      };
      const store = await RunStore.open(root, {
        ...world(REWARDS),
        openModel: () => Promise.resolve({ ...opened, model: { ...model, prompts } }),
      });
      const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
      await until(run);
      const [queued, running, encoded, ...after] = told(run);
      assert.deepEqual([queued, running], ["queued", "running"]);
      assert.match(encoded ?? "", /^running Encoded 1 of 3 prompts/);
      assert.deepEqual(after, ["stopping", "stopped"]);
      await store.close();
    });
  } finally {
    performance.now = now;
  }
});
