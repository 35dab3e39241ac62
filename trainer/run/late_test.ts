import assert from "node:assert/strict";
import { fakeModel, FakeReward } from "../testing/mod.ts";
import {
  CONFIG,
  finish,
  inFolder,
  isState,
  isStep,
  result,
  undisturbed,
  until,
  world,
} from "../testing/run_world.ts";
import { InterruptedError, Patience } from "./_patience.ts";
import { readProvenance, RewardUnavailableError, RunStore } from "./mod.ts";

const never = () => new Promise<never>(() => {});

/** A patience and what it reported. */
function patient({ longest = 20, lateMs = 1e9 } = {}) {
  const told: string[] = [];
  const patience = new Patience({
    longest,
    lateMs,
    away: (reason) => Promise.resolve(void told.push(reason)),
    back: () => Promise.resolve(void told.push("back")),
  });
  return { patience, told };
}

Deno.test("an answer is late when its reward does not say that it is there; what is wanted ends the wait", async () => {
  const { patience, told } = patient();
  let isWanted = false;
  const signals: AbortSignal[] = [];
  const waiting = patience.until({
    work: (signal) => {
      signals.push(signal);
      return never();
    },
    ping: () => Promise.reject(new RewardUnavailableError("Is stopped")),
    isWanted: () => isWanted,
  });
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(told, ["Is stopped"]);
  isWanted = true;
  patience.wake();
  await assert.rejects(waiting, InterruptedError);
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
});

Deno.test("a reward that is slow and says so is waited for, one that fails to answer pings otherwise too", async () => {
  for (const ping of [() => Promise.resolve(), () => Promise.reject(new Error("UNIMPLEMENTED"))]) {
    const { patience, told } = patient();
    let asked = 0;
    const { promise, resolve } = Promise.withResolvers<string>();
    const answer = await patience.until({
      work: () => promise,
      ping: async () => {
        if (++asked === 3) resolve("answer");
        await ping();
      },
      isWanted: () => true,
    });
    assert.equal(answer, "answer");
    assert.deepEqual(told, []);
  }
});

Deno.test("an answer far slower than all before is late whatever the reward says, and may come yet", async () => {
  const { patience, told } = patient({ lateMs: 30 });
  const ping = () => Promise.resolve();
  const isWanted = () => false;
  assert.equal(await patience.until({ work: () => Promise.resolve(1), ping, isWanted }), 1);
  const { promise, resolve } = Promise.withResolvers<number>();
  const waiting = patience.until({ work: () => promise, ping, isWanted });
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  resolve(2);
  assert.equal(await waiting, 2);
  assert.match(told[0] ?? "", /^A reward has not answered in \d+\.\d s$/);
  assert.deepEqual(told.slice(1), ["back"]);
  await assert.rejects(
    patience.once({ work: never, ping }),
    (error) => error instanceof RewardUnavailableError && /has not answered/.test(error.message),
  );
});

Deno.test("a save and a stop reach a run whose reward hangs, and the bytes come out the same", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    let isHung = false;
    const hanging = Object.assign(reward, {
      ping: () => isHung ? Promise.reject(new RewardUnavailableError("Hangs")) : Promise.resolve(),
    });
    reward.onCall = () => isHung ? never() : undefined;
    const store = await RunStore.open(root, world({ dark: hanging }));
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0, checkpointEvery: 0 });
    await until(run, isStep(2));
    isHung = true;
    await until(run, (e) => isState("paused")(e) && run.state === "paused");
    const step = run.step;
    assert.equal(await run.save(), step);
    await until(run, (e) => e.type === "checkpoint" && e.step === step);
    await until(run, (e) => isState("paused")(e) && run.state === "paused");
    await run.stop();
    await until(run);
    assert.deepEqual([run.state, run.step], ["stopped", step]);
    isHung = false;
    await store.resume("run");
    await until(run);
    await store.close();
    assert.equal(await result(root), expected);
  });
});

Deno.test("a save that was asked for while a late answer was thought to come is brought forward", async () => {
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    let saved: Promise<number> | undefined;
    const store = await RunStore.open(root, {
      ...world({ dark: reward }),
      connect: () =>
        Promise.resolve(Object.assign(reward, {
          ping: () =>
            saved ? Promise.reject(new RewardUnavailableError("Hangs")) : Promise.resolve(),
        })),
    });
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0, checkpointEvery: 0 });
    reward.onCall = () => {
      if (run.step !== 3) return;
      saved ??= run.save();
      return never();
    };
    await until(run, (e) => e.type === "checkpoint");
    assert.equal(await saved, 4);
    assert.deepEqual(run.checkpoints, [3]);
    await run.stop();
    await until(run);
    await store.close();
  });
});

Deno.test("a store that closes gives up a step that takes too long, which is done again with the same bits", async () => {
  const expected = await undisturbed();
  await inFolder(async (root) => {
    const model = fakeModel();
    const hung = Promise.withResolvers<void>();
    let isReleased = false;
    const store = await RunStore.open(root, {
      ...world({ dark: new FakeReward(0.2) }),
      graceMs: 5,
      openModel: () =>
        Promise.resolve({
          ...model,
          release: () => Promise.resolve(void (isReleased = true)),
          model: {
            ...model.model,
            adapt: async (...args) => {
              const denoiser = await model.model.adapt(...args);
              return {
                ...denoiser,
                vjp: (...rows) => {
                  if (run.step !== 5) return denoiser.vjp(...rows);
                  hung.resolve();
                  return never();
                },
                release: () => isReleased ? Promise.resolve() : never(),
              };
            },
          },
        }),
    });
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    await hung.promise;
    await store.close();
    assert.deepEqual([run.state, run.step, run.checkpoints.at(-1)], ["queued", 5, 5]);
    assert.ok(isReleased);
    await finish(root, { dark: new FakeReward(0.2) });
    assert.equal(await result(root), expected);
  });
});

Deno.test("a reward whose weights change is an event, and the LoRA says which answered when", async () => {
  await inFolder(async (root) => {
    const reward = new FakeReward(0.2);
    const store = await RunStore.open(root, world({ dark: reward }));
    const { run } = await store.start("run", { ...CONFIG, sampleEvery: 0 });
    reward.onCall = () => {
      if (run.step === 5) reward.digest = "other";
    };
    await until(run);
    assert.equal(run.state, "finished", String(run.log.lastState?.reason));
    const { at: _, ...event } = run.log.events.find((e) => e.type === "digest") ?? assert.fail();
    assert.deepEqual(event, {
      ...{ type: "digest", step: 5, reward: "dark", before: "0.2", after: "other" },
    });
    assert.equal(run.log.events.filter((e) => e.type === "digest").length, 1);
    const saved = await readProvenance(run.folder.checkpoints, 9);
    assert.deepEqual(JSON.parse(saved["drtune.reward_weights"] ?? ""), [
      { name: "dark", sha256: "0.2", from: 1, to: 5 },
      { name: "dark", sha256: "other", from: 6, to: 9 },
    ]);
    assert.match(saved["drtune.rewards"] ?? "", /"sha256":"other"/);
    await store.close();
  });
});
