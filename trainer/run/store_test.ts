import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, finish, inFolder, until, world } from "../testing/run_world.ts";
import {
  parseRunConfig,
  RunConflictError,
  RunFolder,
  RunLog,
  RunStateError,
  RunStore,
  UnknownRunError,
} from "./mod.ts";

const dependencies = () => world({ dark: new FakeReward(0.2) });

/** Two runs that have ended, and what `spoil` makes of the first, opened again. */
async function withSpoilt(
  spoil: (folder: string) => Promise<void>,
  work: (store: RunStore, root: string) => Promise<void>,
): Promise<void> {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, dependencies());
    for (const id of ["bad", "good"]) {
      await until((await store.start(id, { ...CONFIG, iterations: 1, sampleEvery: 0 })).run);
    }
    await store.close();
    await spoil(join(root, "bad"));
    const again = await RunStore.open(root, dependencies());
    try {
      await work(again, root);
    } finally {
      await again.close();
    }
  });
}

async function replaced(file: string, [from, to]: readonly [RegExp, string]): Promise<void> {
  const text = await readFile(file, "utf8");
  assert.match(text, from);
  await writeFile(file, text.replace(from, to));
}

const SPOILT: Record<string, [(folder: string) => Promise<void>, RegExp]> = {
  "a time that is none": [
    (folder) =>
      replaced(join(folder, "config.json"), [/"createdAt": "[^"]*"/, '"createdAt": "yesterday"']),
    /Field createdAt of .*config\.json is "yesterday"/,
  ],
  "an event's time that is none": [
    (folder) => replaced(join(folder, "events.jsonl"), [/"at":"[^"]*"/, '"at":"yesterday"']),
    /Line 1 of .*events\.jsonl is no event/,
  ],
  "a loss of null": [
    (folder) => replaced(join(folder, "events.jsonl"), [/"loss":[^,]*/, '"loss":null']),
    /Line \d of .*events\.jsonl is no event/,
  ],
  "a weight out of bounds": [
    (folder) => replaced(join(folder, "config.json"), [/"weight": 1\b/, '"weight": 1e300']),
    /Field rewards\.0\.weight of .*config\.json is 1e\+300/,
  ],
};

for (const [what, [spoil, reason]] of Object.entries(SPOILT)) {
  Deno.test(`${what} makes one run unreadable, and hides no other; it can be deleted`, async () => {
    await withSpoilt(spoil, async (store, root) => {
      assert.deepEqual(store.list().map(({ id }) => id), ["good"]);
      assert.match(store.unreadable.get("bad") ?? "", reason);
      assert.throws(() => store.get("bad"), RunStateError);
      await store.delete("bad");
      assert.equal(existsSync(join(root, "bad")), false);
      assert.deepEqual([...store.unreadable], []);
      const { created } = await store.start("bad", { ...CONFIG, iterations: 1 });
      assert.ok(created);
      await until(store.get("bad"));
    });
  });
}

Deno.test("weights have bounds, and a number that is not finite never reaches the log", async () => {
  for (const weight of [1e300, -1e7, Infinity, NaN]) {
    const rewards = [{ name: "dark", endpoint: "dark", weight }];
    assert.throws(() => parseRunConfig({ ...CONFIG, rewards }), /Field rewards\.0\.weight is /);
  }
  await inFolder(async (root) => {
    const folder = new RunFolder(root);
    const log = new RunLog({ folder, events: [], rewards: [] });
    const step = {
      ...{ type: "step" as const, step: 1, loss: 1, gradNorm: 1, rewards: {}, seconds: {} },
      ...{ secondsLeft: 0, samples: [], prompts: [], plans: [] },
    };
    await log.emit(step);
    for (const loss of [NaN, Infinity, -Infinity]) {
      await assert.rejects(
        log.emit({ ...step, step: 2, loss }),
        /^Error: Event step of step 2: loss is -?(NaN|Infinity), expected a number/,
      );
    }
    const rewards = { dark: { mean: Infinity, perImage: [], digest: "" } };
    await assert.rejects(
      log.emit({ ...step, step: 2, rewards }),
      /rewards\.dark\.mean is Infinity, expected a number/,
    );
    assert.deepEqual(log.events.map((e) => e.step), [1]);
    assert.deepEqual(await folder.events(), log.events);
  });
});

Deno.test("a run with the greatest scores and weight there may be can be read when it has ended, and deleted", async () => {
  await inFolder(async (root) => {
    // The most that a float32 and the bounds allow.
    const huge = new FakeReward(0.2);
    const honest = huge.score.bind(huge);
    huge.score = async (...args) => ({
      ...await honest(...args),
      scores: Float32Array.of(3e38, 3e38),
    });
    const open = () => RunStore.open(root, world({ dark: huge }));
    const store = await open();
    const rewards = [{ name: "dark", endpoint: "dark", weight: 1e6 }];
    const { run } = await store.start("run", { ...CONFIG, rewards, iterations: 2, sampleEvery: 0 });
    await until(run);
    await store.close();
    const again = await open();
    assert.deepEqual([...again.unreadable], []);
    assert.equal(again.get("run").state, run.state);
    await again.delete("run");
    await again.close();
  });
});

Deno.test("a start that is refused leaves nothing, and takes nothing that was there", async () => {
  await inFolder(async (root) => {
    // A log that cannot be written: a folder stands in its place.
    const mine = join(root, "run", "events.jsonl", "mine");
    await mkdir(mine, { recursive: true });
    const store = await RunStore.open(root, dependencies());
    await assert.rejects(store.start("run", CONFIG));
    assert.deepEqual(store.list(), []);
    assert.ok(existsSync(mine));
    await store.close();
    const again = await RunStore.open(root, dependencies());
    assert.deepEqual([again.list(), [...again.unreadable]], [[], []]);
    await again.close();
  });
  await inFolder(async (root) => {
    // The first event is written, the configuration cannot be: what there is of a run goes again.
    const create = RunFolder.prototype.append;
    const store = await RunStore.open(root, dependencies());
    RunFolder.prototype.append = async function (event) {
      await create.call(this, event);
      throw Object.assign(new Error("No space left on device"), { code: "ENOSPC" });
    };
    try {
      await assert.rejects(store.start("run", CONFIG), /No space/);
    } finally {
      RunFolder.prototype.append = create;
    }
    assert.deepEqual((await readdir(root)).filter((name) => name !== ".lock"), []);
    await store.start("run", CONFIG);
    await store.close();
    await finish(root, { dark: new FakeReward(0.2) });
  });
});

Deno.test("deletes and resumes at once: one wins, the others are told that there is no such run", async () => {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, dependencies());
    const config = { ...CONFIG, iterations: 1, sampleEvery: 0 };
    const { run } = await store.start("run", config);
    await until(run);
    const calls = await Promise.allSettled([
      store.delete("run"),
      store.delete("run"),
      store.resume("run", 3),
      store.delete("run"),
      store.start("run", config),
    ]);
    assert.deepEqual(calls.map(({ status }) => status), [
      ...["fulfilled", "rejected", "rejected", "rejected", "fulfilled"],
    ]);
    for (const call of calls.slice(1, 4)) {
      assert.ok(call.status === "rejected" && call.reason instanceof UnknownRunError);
    }
    // A new run in the place of the one that went.
    assert.notEqual(store.get("run"), run);
    await until(store.get("run"));
    // The other way round: what goes on is not deleted.
    const [resumed, again, deleted] = await Promise.allSettled([
      store.resume("run", 2),
      store.resume("run", 2),
      store.delete("run"),
    ]);
    assert.equal(resumed.status, "fulfilled");
    for (const call of [again, deleted]) {
      assert.ok(call.status === "rejected" && call.reason instanceof RunStateError);
    }
    await until(store.get("run"));
    await store.close();
  });
});

Deno.test("200 rounds of deletes, resumes and starts at once: each is done or refused as what it is, and the folder agrees", async () => {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, dependencies());
    const config = { ...CONFIG, iterations: 1, sampleEvery: 0 };
    /** What may be said, of a run that is gone, that is not in the right state, that is there already. */
    const told = [UnknownRunError, RunStateError, RunConflictError];
    const counts = { fulfilled: 0, rejected: 0 };
    // Whole numbers of a fixed seed (a linear congruential generator).
    let state = 7;
    const roll = (sides: number) =>
      Math.floor((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 * sides);
    try {
      for (let round = 0; round < 200; round++) {
        await until(
          (await store.start("run", config).catch(() => undefined))?.run ?? store.get("run"),
        );
        const done = store.get("run").step;
        const calls = Array.from({ length: 6 }, async () => {
          // Some come when others have begun.
          for (let turns = roll(4); turns > 0; turns--) await Promise.resolve();
          const kind = roll(3);
          if (kind === 0) await store.delete("run");
          else if (kind === 1) await store.resume("run", done + 1);
          else await store.start("run", config);
        });
        for (const call of await Promise.allSettled(calls)) {
          counts[call.status]++;
          if (call.status === "fulfilled") continue;
          assert.ok(told.some((kind) => call.reason instanceof kind), String(call.reason));
        }
        const isListed = store.list().some(({ id }) => id === "run");
        assert.equal(existsSync(join(root, "run", "config.json")), isListed, `round ${round}`);
        if (isListed) await until(store.get("run"));
        const left = (await readdir(root)).filter((name) => name.startsWith(".deleted-"));
        assert.deepEqual(left, [], `round ${round}`);
        if (isListed && roll(2) === 0) await store.delete("run");
      }
    } finally {
      await store.close();
    }
    assert.ok(counts.fulfilled > 300 && counts.rejected > 300, JSON.stringify(counts));
  });
});
