import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, finish, inFolder, isState, isStep, until, world } from "../testing/run_world.ts";
import { type RunEvent, RunStore, type TrainingRun } from "./mod.ts";

/** What is trained makes pictures darker, the judge wants them brighter. */
const REWARDS = { dark: new FakeReward(0.2), bright: new FakeReward(2) };
const AUTO = {
  ...CONFIG,
  sampleEvery: 0,
  checkpointEvery: 0,
  iterations: 40,
  stop: "auto",
  heldOutPrompts: ["a dog", "an owl", "a cat", "a cow", "a fox", "a hen"],
  panel: { every: 2, imagesPerPrompt: 2, rewards: [{ name: "bright", endpoint: "bright" }] },
};

/** What a run says of its panel and its choice, without times. */
function told({ log }: TrainingRun) {
  const evidence = log.events.flatMap((e) => e.type === "panel" ? e.evidence ?? -1 : []);
  const { at: _, ...choice } = log.choice ?? assert.fail();
  return { evidence, choice };
}

/** A run of one iteration that is to choose between two scales: after it the judge is asked for that alone. */
const DONE = { ...AUTO, stop: "never", iterations: 1, panel: { ...AUTO.panel, scales: [0.5] } };
/** The same by a budget. */
const SPENT = { ...DONE, iterations: 40, budget: { seconds: 1e-6, of: "gpu" } };

const never = () => new Promise<never>(() => {});
const isPanel = (step: number) => (e: RunEvent) => e.type === "panel" && e.step === step;

/** Trains from the folder's state to the end. */
async function reopened(root: string): Promise<TrainingRun> {
  const store = await RunStore.open(root, world(REWARDS));
  const run = store.get("run");
  await until(run);
  await store.close();
  return run;
}

Deno.test("a run with autopilot ends when its judge turns, chooses, and does the same after a kill and SIGTERM", async () => {
  let whole: unknown;
  let last = 0;
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(REWARDS));
    const { run } = await store.start("run", AUTO);
    await until(run);
    assert.equal(run.state, "stopped");
    const reason = run.log.lastState?.reason ?? "";
    assert.match(
      reason,
      /^The judges have turned: bright is .* worse than at step \d+ \(evidence .*, 20 ends a run\)$/,
    );
    last = run.step;
    assert.ok(last < 40 && last % 2 === 0, String(last));
    const evidence = run.log.events.flatMap((e) => e.type === "panel" ? e.evidence ?? 0 : []);
    assert.ok(evidence.slice(0, -1).every((v) => v < 20) && (evidence.at(-1) ?? 0) >= 20);
    // Every measured checkpoint may be chosen, and the last at four scales.
    const choice = run.log.choice ?? assert.fail();
    const measured = Array.from({ length: last / 2 }, (_, i) => 2 * (i + 1));
    assert.deepEqual(run.checkpoints, measured);
    assert.equal(choice.candidates.length, measured.length - 1 + 4);
    const [best] = choice.candidates;
    assert.deepEqual([best?.step, best?.loraScale], [choice.chosen, choice.loraScale]);
    // The judge falls from the first step on: what is chosen is before what ended the run, or less of it.
    const compared = choice.candidates.find((c) => c.step === last && c.loraScale === 1);
    assert.deepEqual(compared?.objections, ["bright"]);
    assert.ok(choice.chosen < last || choice.loraScale < 1);
    whole = told(run);
    await store.close();
    // Killed when the measurement that ends it was written, and nothing after it.
    const log = join(root, "run", "events.jsonl");
    const lines = (await readFile(log, "utf8")).split("\n");
    const decided = lines.findLastIndex((line) => line.includes('"type":"panel"'));
    await writeFile(log, `${lines.slice(0, decided + 1).join("\n")}\n`);
    const killed = await RunStore.open(root, world(REWARDS));
    const again = killed.get("run");
    await until(again);
    assert.deepEqual([again.state, again.log.lastState?.reason], ["stopped", reason]);
    assert.deepEqual(told(again), whole);
    // Whoever knows better goes on; what was chosen is of the past then.
    await killed.resume("run");
    await until(again, isStep(last + 1));
    assert.equal(again.log.choice, undefined);
    await killed.close();
  });
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(REWARDS));
    const { run } = await store.start("run", AUTO);
    await until(run, isStep(3));
    await store.close();
    // The server is stopped while the measurement that ends the run is made.
    const bright = new FakeReward(2);
    const second = await RunStore.open(root, { ...world({ ...REWARDS, bright }), graceMs: 60_000 });
    const measuring = second.get("run");
    const asked = Promise.withResolvers<void>();
    let isClosing: Promise<void> | undefined;
    bright.onCall = () => {
      if (measuring.step < last) return;
      isClosing ??= second.close();
      asked.resolve();
    };
    await asked.promise;
    await isClosing;
    assert.ok(measuring.log.events.some(isPanel(last)));
    assert.equal(measuring.state, "queued");
    const again = await reopened(root);
    assert.equal(again.state, "stopped");
    assert.deepEqual(told(again), whole);
  });
});

Deno.test("a choice that SIGTERM gave up is made when the server is there again", async () => {
  for (const [config, state] of [[DONE, "finished"], [SPENT, "stopped"]] as const) {
    await inFolder(async (root) => {
      const bright = new FakeReward(2);
      const store = await RunStore.open(root, { ...world({ ...REWARDS, bright }), graceMs: 5 });
      const { run } = await store.start("run", config);
      const asked = Promise.withResolvers<void>();
      bright.onCall = () => {
        if (run.step === 0) return;
        asked.resolve();
        return never();
      };
      await asked.promise;
      await store.close();
      assert.deepEqual([run.state, run.step], ["queued", 1]);
      const again = await reopened(root);
      assert.deepEqual([again.state, again.step], [state, 1]);
      assert.equal(again.log.choice?.candidates.length, 2);
    });
  }
});

Deno.test("a run that waits for its judge to choose is PAUSED, can be stopped, and chooses when it is resumed", async () => {
  for (const [config, state] of [[DONE, "finished"], [SPENT, "stopped"]] as const) {
    await inFolder(async (root) => {
      const bright = new FakeReward(2);
      const store = await RunStore.open(root, world({ ...REWARDS, bright }));
      const { run } = await store.start("run", config);
      bright.onCall = () => {
        bright.isAway = run.step > 0;
      };
      await until(run, isState("paused"));
      await run.stop();
      await until(run);
      assert.deepEqual([run.state, run.step, run.log.choice], ["stopped", 1, undefined]);
      bright.onCall = () => {
        bright.isAway = false;
      };
      await store.resume("run");
      await until(run);
      assert.deepEqual([run.state, run.step], [state, 1]);
      assert.equal(run.log.choice?.candidates.length, 2);
      await store.close();
    });
  }
});

Deno.test("a run that is done chooses a scale of its LoRA, where it is asked to", async () => {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(REWARDS));
    const config = { ...AUTO, stop: "never", iterations: 6 };
    const panel = { ...AUTO.panel, scales: [0.5] };
    const { run } = await store.start("run", { ...config, panel });
    await until(run);
    await store.close();
    const choice = run.log.choice ?? assert.fail();
    assert.equal(choice.chosen, 6);
    assert.deepEqual(choice.candidates.map((c) => c.loraScale).sort(), [0.5, 1]);
    const { log } = await finish(root, REWARDS);
    assert.equal(log.events.filter((e) => e.type === "choice").length, 1);
  });
});
