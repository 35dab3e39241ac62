import assert from "node:assert/strict";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, finish, inFolder, isStep, until, world } from "../testing/run_world.ts";
import { RunStore, type TrainingRun } from "./mod.ts";

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

Deno.test("a run with autopilot ends when its judge turns, chooses, and does the same after a kill", async () => {
  let whole: unknown;
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(REWARDS));
    const { run } = await store.start("run", AUTO);
    await until(run);
    assert.equal(run.state, "stopped");
    assert.match(
      run.log.lastState?.reason ?? "",
      /^The judges have turned: bright is .* worse than at step \d+ \(evidence .*, 20 ends a run\)$/,
    );
    assert.ok(run.step < 40 && run.step % 2 === 0, String(run.step));
    const evidence = run.log.events.flatMap((e) => e.type === "panel" ? e.evidence ?? 0 : []);
    assert.ok(evidence.slice(0, -1).every((v) => v < 20) && (evidence.at(-1) ?? 0) >= 20);
    // Every measured checkpoint may be chosen, and the last at four scales.
    const choice = run.log.choice ?? assert.fail();
    const measured = Array.from({ length: run.step / 2 }, (_, i) => 2 * (i + 1));
    assert.deepEqual(run.checkpoints, measured);
    assert.equal(choice.candidates.length, measured.length - 1 + 4);
    const [best] = choice.candidates;
    assert.deepEqual([best?.step, best?.loraScale], [choice.chosen, choice.loraScale]);
    // The judge falls from the first step on: what is chosen is before what ended the run, or less of it.
    const last = choice.candidates.find((c) => c.step === run.step && c.loraScale === 1);
    assert.deepEqual(last?.objections, ["bright"]);
    assert.ok(choice.chosen < run.step || choice.loraScale < 1);
    whole = told(run);
    // Whoever knows better goes on; what was chosen is of the past then.
    await store.resume("run");
    await until(run, isStep(run.step + 1));
    assert.equal(run.log.choice, undefined);
    await store.close();
  });
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(REWARDS));
    const { run } = await store.start("run", AUTO);
    await until(run, isStep(3));
    await store.close();
    const again = await RunStore.open(root, world(REWARDS));
    await until(again.get("run"));
    assert.deepEqual(told(again.get("run")), whole);
    await again.close();
  });
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
