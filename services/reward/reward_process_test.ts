import assert from "node:assert/strict";
import { RewardInputError } from "../../rewards/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { WorkerEndedError } from "./_worker_process.ts";
import { RewardProcess, type RewardProcessOptions, type RewardRecord } from "./reward_process.ts";
import { SupervisedReward } from "./supervised_reward.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

const log = createLogger({ level: "silent" });
const settings = { baseDir: ".", cacheDir: ".cache" };
const entry = new URL("./testing/fake_worker.ts", import.meta.url);

function start(record: RewardRecord = {}, options: Partial<RewardProcessOptions> = {}) {
  return RewardProcess.start("fake", record, { log, entry, settings, ...options });
}

Deno.test("A reward in a process answers as it would in this one", async () => {
  const reward = await start({ scale: 2, readsPrompt: true });
  try {
    assert.deepEqual(reward.info, {
      name: "fake",
      kind: "fake",
      direction: "minimise",
      range: [0, Infinity],
      readsPrompt: true,
      preprocessing: "none",
      fileProcessing: "reference",
      digest: "scale 2",
      provider: "cpu",
      selfCheck: { score: 1, gradientNorm: 0.5 },
    });
    // Larger than a pipe holds, either way.
    const images = flatImages([0.5, 1], 100, 200);
    const [scored, both] = await Promise.all([
      reward.score(images, ["a", "é🦊"]),
      reward.score(images, ["", "abc"], { gradient: true }),
    ]);
    assert.deepEqual([...scored.scores], [2, 5]);
    assert.equal(scored.gradient, undefined);
    assert.deepEqual([...both.scores], [1, 5]);
    assert.deepEqual(both.gradient?.shape, [2, 3, 100, 200]);
    assert.deepEqual(both.gradient?.data, new Float32Array(120_000).fill(2 / 60_000));
    const reference = await reward.score(flatImages([1]), [""], { processing: "reference" });
    assert.deepEqual([...reference.scores], [102]);
    await assert.rejects(
      reward.score(images, ["refuse", ""]),
      new RewardInputError("Prompt is refused"),
    );
    await assert.rejects(reward.score(images, ["fault", ""]), new Error("Secret of the reward"));
    assert.equal((await reward.score(images, ["", ""])).scores.length, 2);
  } finally {
    await reward.dispose();
    await reward.dispose();
  }
});

Deno.test("A load that fails says why and leaves no process", async () => {
  await assert.rejects(
    start({ fails: "Weights are truncated" }),
    new Error("Weights are truncated"),
  );
  await assert.rejects(
    start({}, { permissions: [], entry: new URL("file:///no/such/worker.ts") }),
    (error) => {
      assert(error instanceof WorkerEndedError);
      assert.match(error.message, /of reward fake ended with code 1\n.*no\/such\/worker\.ts/s);
      return true;
    },
  );
});

Deno.test("A crash fails one request; the process is started again, and later requests wait for it", async () => {
  const states: boolean[] = [];
  const reward = await SupervisedReward.start(() => start({ readsPrompt: true }), {
    log,
    onReady: (ready) => states.push(ready),
  });
  try {
    const images = flatImages([0]);
    await assert.rejects(
      reward.score(images, ["crash"]),
      hasStatus("UNAVAILABLE", /^Process of reward fake ended during the request/),
    );
    assert.deepEqual([...(await reward.score(images, ["abc"])).scores], [3]);
    assert.equal(reward.restarts, 1);
    assert.deepEqual(states, [false, true]);
  } finally {
    await reward.dispose();
  }
});

Deno.test("A reward that cannot be started again says so, and is back when it can", async () => {
  let broken = false;
  const reward = await SupervisedReward.start(
    () => start({ readsPrompt: true, ...(broken && { fails: "Weights are gone" }) }),
    { log, backoffMs: 20 },
  );
  try {
    const images = flatImages([0]);
    broken = true;
    await assert.rejects(
      reward.score(images, ["crash"]),
      hasStatus("UNAVAILABLE", /started again/),
    );
    await assert.rejects(
      reward.score(images, ["a"]),
      hasStatus("UNAVAILABLE", /cannot be started/),
    );
    broken = false;
    const deadline = Date.now() + 10_000;
    while (true) {
      const scored = await reward.score(images, ["ab"]).catch(() => undefined);
      if (scored) {
        assert.deepEqual([...scored.scores], [2]);
        break;
      }
      assert(Date.now() < deadline, "The reward did not come back");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  } finally {
    await reward.dispose();
  }
});

Deno.test("A run that hangs is ended after its time", async () => {
  const reward = await start({ readsPrompt: true }, { runTimeoutMs: 200 });
  await assert.rejects(
    reward.score(flatImages([0]), ["hang"]),
    (error) =>
      error instanceof WorkerEndedError && /did not answer within 0\.2 s/.test(error.message),
  );
  await reward.dispose();
});

Deno.test("An aborted call is not waited for, and one that has not begun is not made", async () => {
  const reward = await start({ readsPrompt: true, blockMs: 100 });
  try {
    const images = flatImages([0]);
    const controller = new AbortController();
    const { signal } = controller;
    const running = reward.score(images, ["a"], { signal });
    const waiting = reward.score(images, ["crash"], { signal });
    const other = reward.score(images, ["ab"]);
    controller.abort(new Error("Enough"));
    await assert.rejects(running, new Error("Enough"));
    await assert.rejects(waiting, new Error("Enough"));
    assert.deepEqual([...(await other).scores], [2]);
  } finally {
    await reward.dispose();
  }
});
