import assert from "node:assert/strict";
import { create, fromBinary } from "@bufbuild/protobuf";
import { errors } from "@nats-io/transport-node";
import { float32 } from "../../../autodiff/mod.ts";
import { encodeSafetensors } from "../../../models/weights/mod.ts";
import {
  BlobSchema,
  JobResultSchema,
  JobSchema,
  ShardScoresSchema,
  type ShardValue,
  ShardValueSchema,
  Verdict,
} from "../../../proto/mod.ts";
import type { ShardResult } from "../../../trainer/mod.ts";
import { BlobError } from "../../cluster/mod.ts";
import { ShardOffer } from "./shard_offer.ts";

const SHARDS = [0, 1, 2].map((start) => ({ batch: 0, start, end: start + 1 }));
const blob = create(BlobSchema, { sha256: "ab" });

/** An offer of three shards, the jobs it published, by id, and what was taken. */
function setUp(
  { room = Infinity, why, shape = [2], fetch }: {
    /** Jobs that the queue takes. */
    readonly room?: number;
    /** Why no worker takes jobs. */
    readonly why?: string;
    /** Of the gradients that workers send. */
    readonly shape?: readonly number[];
    readonly fetch?: () => Promise<Uint8Array>;
  } = {},
) {
  const queue: {
    room: number;
    isNew: boolean;
    readonly jobs: Map<string, number>;
    /** What looking at it throws, and making it. */
    lost?: Error;
    closed?: Error;
  } = { room, isNew: true, jobs: new Map() };
  const taken: [index: number, result: ShardResult][] = [];
  const faults: string[] = [];
  const gradients = encodeSafetensors({ a: float32(new Float32Array(shape[0] ?? 0), shape) });
  const offer = new ShardOffer({
    iteration: 5,
    shards: SHARDS,
    parameters: { a: float32([1, 2]) },
    reference: undefined,
    rewards: [],
    take: (...result) => taken.push(result),
  }, {
    number: 1,
    runId: "run",
    jobs: {
      prepare: () => {
        if (queue.closed) return Promise.reject(queue.closed);
        const isNew = queue.isNew;
        queue.isNew = false;
        return Promise.resolve(isNew);
      },
      publish: (id, bytes) => {
        if (queue.room-- <= 0) return Promise.reject(new Error("maximum messages exceeded"));
        queue.jobs.set(id, fromBinary(JobSchema, bytes).index);
        return Promise.resolve();
      },
      count: () => queue.lost ? Promise.reject(queue.lost) : Promise.resolve(queue.jobs.size),
      distrust: () => queue.isNew = true,
    },
    workers: { done: () => {}, whyNone: () => why, isIdle: false },
    lora: Promise.resolve(blob),
    reference: undefined,
    fetch: fetch ?? (() => Promise.resolve(gradients)),
    computedOn: () => {},
    onFault: ({ worker, message }) => faults.push(`${worker}: ${message}`),
    onWithdrawn: () => Promise.resolve(),
  });
  const value = (index: number, worker = "w") =>
    offer.result(create(JobResultSchema, {
      ...{ index, worker },
      outcome: { case: "value", value: { gradients: blob, loss: index } },
    }));
  const fault = (index: number, { worker = "w", message = "broken", rewardAway = false } = {}) =>
    offer.result(create(JobResultSchema, {
      ...{ index, worker },
      outcome: { case: "fault", value: { message, rewardAway } },
    }));
  return { offer, queue, taken, faults, value, fault };
}

const soon = () => new Promise((wait) => setTimeout(wait, 20));
const never = new AbortController().signal;

Deno.test("Results are taken once each, in whatever order they come, and duplicates are done with", async () => {
  const { offer, queue, taken, value } = setUp();
  const waiting = offer.taken(never);
  await soon();
  assert.deepEqual([...queue.jobs.values()], [0, 1, 2]);
  assert.equal(await value(2), Verdict.DONE);
  assert.deepEqual(await Promise.all([value(0, "w1"), value(0, "w2")]), [
    Verdict.DONE,
    Verdict.DONE,
  ]);
  assert.equal(await value(1), Verdict.DONE);
  await waiting;
  assert.deepEqual(taken.map(([index, { loss, worker }]) => [index, loss, worker]), [
    [2, 2, "w"],
    [0, 0, "w1"],
    [1, 1, "w"],
  ]);
  assert.equal(await value(1), Verdict.DONE);
  assert.equal(taken.length, 3);
});

Deno.test("A reward that is away, and a time without workers, pass: the same offer goes on", async () => {
  const { offer, taken, value, fault } = setUp();
  const waiting = offer.taken(never);
  await soon();
  await value(0);
  const away = { message: "Reward clip does not answer", rewardAway: true };
  assert.equal(await fault(1, away), Verdict.AGAIN);
  await assert.rejects(waiting, { name: "UnavailableError", message: away.message });
  const again = offer.taken(never);
  await Promise.all([value(1), value(2)]);
  await again;
  assert.equal(taken.length, 3);
});

Deno.test("A shard that three workers fail at ends the run with its fault", async () => {
  const { offer, faults, fault } = setUp();
  const waiting = offer.taken(never);
  await soon();
  for (const worker of ["a", "a", "b"]) await fault(1, { worker });
  await soon();
  await fault(1, { worker: "c", message: "loss is NaN" });
  await assert.rejects(waiting, {
    name: "Error",
    message: "Shard 1 of iteration 5 failed on workers a, b, c: loss is NaN",
  });
  assert.deepEqual(faults, ["a: broken", "a: broken", "b: broken", "c: loss is NaN"]);
});

Deno.test("Gradients that are not the parameters' are a worker's fault, a worker that died is not at fault", async () => {
  const wrong = setUp({ shape: [3] });
  assert.equal(await wrong.value(0), Verdict.AGAIN);
  assert.deepEqual(wrong.faults, ['w: Gradient "a" is float32 [3], expected float32 [2]']);
  const died = setUp({ fetch: () => Promise.reject(new BlobError("gone")) });
  assert.equal(await died.value(0), Verdict.AGAIN);
  assert.deepEqual([died.faults, died.taken], [[], []]);
});

Deno.test("Numbers that are not finite, other rewards and files of gigabytes are a worker's fault", async () => {
  const { offer, taken, faults } = setUp();
  const strange: [Partial<ShardValue>, RegExp][] = [
    [{ loss: NaN }, /^w: Its result has a number that is not finite$/],
    [{ drift: Infinity }, /not finite$/],
    [{ cpuSeconds: NaN }, /not finite$/],
    [{ cpuSeconds: -1e9 }, /^w: Its times are none of/],
    [{ seconds: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`${i}`, 1])) }, /times/],
    [
      { rewards: { ["x".repeat(9999)]: create(ShardScoresSchema) } },
      /^w: Its rewards are x{200}…, expected/,
    ],
    [{ gradients: create(BlobSchema, { size: 2n ** 32n }) }, /have 4294967296 bytes, expected/],
  ];
  for (const [i, [value, message]] of strange.entries()) {
    const told = Object.assign(create(ShardValueSchema, { gradients: blob, loss: 1 }), value);
    const verdict = await offer.result(create(JobResultSchema, {
      worker: "w",
      outcome: { case: "value", value: told },
    }));
    assert.equal(verdict, Verdict.AGAIN);
    assert.match(faults[i] ?? "", message);
  }
  assert.deepEqual(taken, []);
});

Deno.test("A full queue is waited for, and one that takes nothing is told", async () => {
  const { offer, queue, value } = setUp({ room: 1 });
  const waiting = offer.taken(never);
  await soon();
  assert.deepEqual([...queue.jobs.values()], [0]);
  queue.room = 2;
  await value(0);
  await soon();
  assert.deepEqual([...queue.jobs.values()], [0, 1, 2]);
  await Promise.all([value(1), value(2)]);
  await waiting;
  await assert.rejects(setUp({ room: 0 }).offer.taken(never), {
    name: "UnavailableError",
    message: "The queue takes no jobs: maximum messages exceeded",
  });
});

Deno.test("Jobs that a queue has lost are published again", async () => {
  const { offer, queue, value } = setUp();
  const waiting = offer.taken(never);
  await soon();
  await value(1);
  queue.jobs.clear();
  queue.isNew = true;
  await value(1);
  await new Promise((wait) => setTimeout(wait, 600));
  assert.deepEqual([...queue.jobs.values()], [0, 2]);
  await Promise.all([value(0), value(2)]);
  await waiting;
});

Deno.test("Jobs of a stream that is gone are published into a new one, and the run is told where there is none", async () => {
  const now = performance.now.bind(performance);
  let late = 0;
  performance.now = () => now() + late;
  const looked = async () => {
    late += 11_000;
    await new Promise((wait) => setTimeout(wait, 700));
  };
  try {
    const { offer, queue, value } = setUp();
    const waiting = offer.taken(never);
    await soon();
    await value(1);
    queue.jobs.clear();
    // Once without an answer says nothing.
    queue.lost = new errors.TimeoutError();
    await looked();
    assert.deepEqual([...queue.jobs.keys()], []);
    queue.lost = new Error("stream not found");
    await looked();
    assert.deepEqual([...queue.jobs.keys()], ["1.0.1", "1.2.1"]);
    queue.closed = new Error("JetStream is not enabled");
    const told = assert.rejects(waiting, {
      name: "UnavailableError",
      message: "The queue takes no jobs: JetStream is not enabled",
    });
    queue.isNew = true;
    await looked();
    await told;
  } finally {
    performance.now = now;
  }
});

Deno.test("An offer that is given up says why", async () => {
  const abort = new AbortController();
  const waiting = setUp({ why: "No worker has joined" }).offer.taken(abort.signal);
  await soon();
  abort.abort(new Error("Stopped"));
  await assert.rejects(waiting, { message: "Stopped" });
});
