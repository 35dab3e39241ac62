import assert from "node:assert/strict";
import { Batcher } from "./batcher.ts";
import { fakeReward } from "./testing/fake_reward.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

/** A batcher whose runs wait for `go`, and the sizes of its runs. */
function gated(options = {}, record = {}) {
  const runs: number[] = [];
  const gate = Promise.withResolvers<void>();
  const reward = fakeReward({
    readsPrompt: true,
    ...record,
    onRun: async (count) => {
      runs.push(count);
      await gate.promise;
    },
  });
  return { batcher: new Batcher(reward, options), runs, go: () => gate.resolve() };
}

function job(values: readonly number[], { gradient = false, side = 2, prompt = "ab" } = {}) {
  const images = flatImages(values, side, side);
  return { images, prompts: values.map((_, i) => prompt.repeat(i + 1)), gradient };
}

Deno.test("Jobs of one kind run together, larger ones in parts, each with its own results", async () => {
  const { batcher, runs, go } = gated({ maxBatch: 4 });
  const first = batcher.submit(job([0.5]));
  await Promise.resolve();
  const jobs = [
    job([0.25, 0.75]),
    job([1], { gradient: true }),
    job([0, 1, 2, 3, 4, 5]),
    job([2], { side: 4 }),
    job([0.5, 0.25], { prompt: "abc" }),
  ];
  const results = jobs.map((job) => batcher.submit(job));
  go();
  assert.deepEqual([...(await first).scores], [2.5]);
  const scores = (await Promise.all(results)).map(({ scores }) => [...scores]);
  assert.deepEqual(scores, [
    [2.25, 4.75],
    [3],
    [2, 5, 8, 11, 14, 17],
    [4],
    [3.5, 6.25],
  ]);
  // 1 alone; 2 + 2 of six; the gradient; 4 of six; the larger image; the last 2.
  assert.deepEqual(runs, [1, 4, 1, 4, 1, 2]);
});

Deno.test("Jobs of another processing run apart; tensor is what a job has that names none", async () => {
  const { batcher, runs, go } = gated();
  const first = batcher.submit(job([0]));
  await Promise.resolve();
  const jobs = [
    job([0.25]),
    { ...job([0.5, 0.75]), processing: "reference" as const },
    { ...job([1]), processing: "tensor" as const },
    { ...job([1.25]), processing: "reference" as const },
  ];
  const results = jobs.map((job) => batcher.submit(job));
  go();
  await first;
  const scores = (await Promise.all(results)).map(({ scores }) => [...scores]);
  assert.deepEqual(scores, [[2.25], [102.5, 104.75], [3], [103.25]]);
  assert.deepEqual(runs, [1, 2, 3]);
});

Deno.test("A job is told which of its prompts were cut, whatever ran beside it", async () => {
  const { batcher, runs, go } = gated({ maxBatch: 3 });
  const jobs = [["a"], ["b…", "c", "d…"], ["e…"]].map((prompts) => ({
    ...job(prompts.map(() => 0)),
    prompts,
  }));
  const results = jobs.map((job) => batcher.submit(job));
  go();
  const truncated = (await Promise.all(results)).map(({ truncated }) => truncated);
  assert.deepEqual(truncated, [[], [0, 2], [0]]);
  assert.deepEqual(runs, [3, 2]);
});

Deno.test("Gradients are split as the scores are", async () => {
  const { batcher, runs, go } = gated({ maxBatch: 3 }, { scale: 24 });
  const jobs = [job([0]), job([1, 2, 3], { gradient: true }), job([4], { gradient: true })];
  const results = jobs.map((job) => batcher.submit(job));
  go();
  const [none, three, one] = await Promise.all(results);
  assert.equal(none?.gradient, undefined);
  assert.deepEqual(three?.gradient?.shape, [3, 3, 2, 2]);
  assert.deepEqual(three?.gradient?.data, new Float32Array(36).fill(2));
  assert.deepEqual(one?.gradient?.data, new Float32Array(12).fill(2));
  assert.deepEqual(runs, [1, 3, 1]);
});

Deno.test("A full queue refuses at once and takes jobs again when there is room", async () => {
  const { batcher, go } = gated({ maxBatch: 1, maxQueuedImages: 2 });
  const running = batcher.submit(job([0]));
  await Promise.resolve();
  await Promise.resolve();
  const waiting = batcher.submit(job([1, 2]));
  assert.equal(batcher.queuedImages, 2);
  await assert.rejects(
    batcher.submit(job([3])),
    hasStatus(
      "RESOURCE_EXHAUSTED",
      /^Queue of reward fake is full: 2 images of 96 bytes wait, at most 2 of \d+ may; the job has 1 of 48$/,
    ),
  );
  go();
  await Promise.all([running, waiting]);
  assert.deepEqual([...(await batcher.submit(job([3]))).scores], [5]);
});

Deno.test("The queue is bounded in bytes too", async () => {
  const { batcher } = gated({ maxQueuedBytes: 47 });
  await assert.rejects(batcher.submit(job([3])), hasStatus("RESOURCE_EXHAUSTED", /full/));
});

/** Images that are decoded when told to. */
function encoded(value: number) {
  const images = flatImages([value]);
  const decoded = Promise.withResolvers<typeof images>();
  let decodes = 0;
  const decode = () => {
    decodes++;
    return decoded.promise;
  };
  return {
    job: { images: { shape: images.shape, decode }, prompts: ["ab"], gradient: false },
    decodes: () => decodes,
    resolve: () => decoded.resolve(images),
    reject: (error: Error) => decoded.reject(error),
  };
}

Deno.test("Images are decoded where there is room for them, and count from before", async () => {
  const { batcher, go } = gated({ maxQueuedBytes: 96 });
  go();
  const [one, two, three] = [encoded(1), encoded(2), encoded(3)];
  const results = [one, two].map(({ job }) => batcher.submit(job));
  assert.equal(batcher.queuedImages, 2);
  await assert.rejects(
    batcher.submit(three.job),
    hasStatus("RESOURCE_EXHAUSTED", /2 images of 96 bytes wait, at most 256 of 96 may/),
  );
  assert.deepEqual([one, two, three].map(({ decodes }) => decodes()), [1, 1, 0]);
  one.resolve();
  two.reject(new Error("Broken"));
  await assert.rejects(async () => await results[1], new Error("Broken"));
  assert.deepEqual([...(await results[0])?.scores ?? []], [3]);
  assert.equal(batcher.queuedImages, 0);
  three.resolve();
  assert.deepEqual([...(await batcher.submit(three.job)).scores], [5]);
});

Deno.test("An aborted job keeps its room while its images are decoded, and the batcher is not idle", async () => {
  const { batcher, go, runs } = gated();
  go();
  const [one, two] = [encoded(1), encoded(2)];
  const controller = new AbortController();
  const aborted = batcher.submit(one.job, controller.signal);
  const other = batcher.submit(two.job);
  controller.abort(new Error("Enough"));
  await assert.rejects(aborted, new Error("Enough"));
  assert.equal(batcher.queuedImages, 2);
  let isIdle = false;
  const idle = batcher.idle().then(() => isIdle = true);
  one.resolve();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual([batcher.queuedImages, isIdle], [1, false]);
  two.resolve();
  await idle;
  assert.deepEqual([...(await other).scores], [4]);
  assert.deepEqual(runs, [1]);
});

Deno.test("An aborted job leaves the queue, or is abandoned while it runs; others are not touched", async () => {
  const { batcher, runs, go } = gated({ maxBatch: 1 });
  const controllers = [0, 1, 2].map(() => new AbortController());
  const [running, waiting, other] = controllers.map(({ signal }, i) =>
    batcher.submit(job([i]), signal)
  );
  await Promise.resolve();
  await Promise.resolve();
  controllers[1]?.abort(new Error("Waiting"));
  assert.equal(batcher.queuedImages, 1);
  controllers[0]?.abort(new Error("Running"));
  await assert.rejects(async () => await waiting, new Error("Waiting"));
  await assert.rejects(async () => await running, new Error("Running"));
  go();
  assert.deepEqual([...(await other)?.scores ?? []], [4]);
  assert.deepEqual(runs, [1, 1]);
  await assert.rejects(
    batcher.submit(job([9]), AbortSignal.abort(new Error("Before"))),
    new Error("Before"),
  );
});

Deno.test("A job that fails takes no other with it", async () => {
  const { batcher, runs, go } = gated({ maxBatch: 4 });
  const jobs = [job([0]), job([1]), job([2], { prompt: "refuse" }), job([3])];
  const results = jobs.map((job) => batcher.submit(job));
  go();
  const outcomes = await Promise.allSettled(results);
  assert.deepEqual(
    outcomes.map((o) => o.status === "fulfilled" ? [...o.value.scores] : o.reason.message),
    [
      [2],
      [3],
      "Prompt is refused",
      [5],
    ],
  );
  assert.deepEqual(runs, [4, 1, 1, 1, 1]);
  await batcher.idle();
});
