import assert from "node:assert/strict";
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import {
  CONFIG as PLAIN,
  inFolder,
  result,
  undisturbed,
  until,
  world,
} from "../testing/run_world.ts";
import { DISK_POINTS, type DiskPoint, injectDiskFault, TIDY_POINTS } from "./_disk.ts";
import { listCheckpoints, readCheckpoint, RunStore } from "./mod.ts";

/** Its checkpoints hold all that they may. */
const CONFIG = { ...PLAIN, lora: { ema: 0.5 }, drift: { weight: 0.1, resetEvery: 3 } };

const ENOSPC = () => Object.assign(new Error("No space left on device"), { code: "ENOSPC" });

/** A reward under which the run is saved after its second iteration, and swapped for the same after its fifth. */
function reward(store: () => RunStore): FakeReward {
  const dark = new FakeReward(0.2);
  const asked = new Set<number>();
  dark.onCall = async () => {
    const run = store().list().find(({ id }) => id === "run");
    const step = run?.step ?? 0;
    if (run === undefined || asked.has(step) || run.ended) return;
    asked.add(step);
    if (step === 1) await run.save();
    if (step === 4) await run.swap(run.rewards);
  };
  return dark;
}

/** Opens a folder of runs, calls `work`, and closes it. What is thrown meanwhile is thrown when it is closed. */
async function opened<T>(root: string, work: (store: RunStore) => Promise<T>): Promise<T> {
  const store: RunStore = await RunStore.open(root, world({ dark: reward(() => store) }));
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** All there is to do with a folder: what was left behind is removed, a run trains with all requests, another is deleted. */
async function scenario(root: string): Promise<void> {
  await opened(root, async (store) => {
    const config = { ...CONFIG, iterations: 1, sampleEvery: 0 };
    const { run: old } = await store.start("old", config);
    await until(old);
    await store.delete("old");
    await until((await store.start("run", CONFIG)).run);
  });
  await damaged(root);
}

/** Makes a folder in which there is something to remove, and to move aside. */
async function prepared(root: string): Promise<void> {
  await mkdir(join(root, ".deleted-before", "samples"), { recursive: true });
}

/** Goes on from what a folder holds, as often as it takes, and checks that it comes to what nothing disturbed. */
async function mended(root: string, expected: ReadonlyMap<number, string>): Promise<void> {
  await opened(root, async (store) => {
    assert.deepEqual([...store.unreadable], []);
    const run = store.list().find(({ id }) => id === "run") ??
      (await store.start("run", CONFIG)).run;
    await until(run);
    if (run.state === "failed") {
      await store.resume("run");
      await until(run);
    }
    assert.equal(run.state, "finished", String(run.log.lastState?.reason));
    const steps = run.log.events.flatMap((e) => e.type === "step" && e.step > 0 ? e.step : []);
    assert.deepEqual(steps, Array.from({ length: run.iterations }, (_, i) => i + 1));
    // Everything that is there under its name is whole.
    for (const step of await listCheckpoints(run.folder.checkpoints)) {
      await readCheckpoint(run.folder.checkpoints, step);
    }
    assert.equal(await result(root, { step: run.iterations }), expected.get(run.iterations));
    const names = await readdir(run.folder.checkpoints);
    assert.deepEqual(names.filter((name) => !/^(damaged-)?step-\d{6}/.test(name)), []);
  });
}

/** What a run comes to after nine iterations and after ten. */
async function results(): Promise<ReadonlyMap<number, string>> {
  return new Map([[9, await undisturbed(9, CONFIG)], [10, await undisturbed(10, CONFIG)]]);
}

/** How often each point is passed in the scenario. */
async function passed(): Promise<Map<DiskPoint, number>> {
  const counts = new Map<DiskPoint, number>();
  await inFolder(async (root) => {
    await prepared(root);
    injectDiskFault((point, act) => {
      counts.set(point, (counts.get(point) ?? 0) + 1);
      return act();
    });
    await scenario(root);
    injectDiskFault(undefined);
  });
  return counts;
}

/** A damaged checkpoint is moved aside, and what an interrupted attempt left is removed, when a run is resumed. */
async function damaged(root: string): Promise<void> {
  const checkpoints = join(root, "run", "checkpoints");
  const file = join(checkpoints, "step-000009", "lora.safetensors");
  // Not reached where the run failed.
  if (!existsSync(file)) return;
  const bytes = await readFile(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(file, bytes);
  await mkdir(join(checkpoints, ".attempt-before"));
  await opened(root, async (store) => {
    const run = store.get("run");
    // After a fault it may go on by itself.
    if (run.ended) await store.resume("run", 10);
    await until(run);
  });
}

/** The passes of a point at which faults are injected: the first ones, one in the middle and the last. */
function chosen(count: number): number[] {
  return [...new Set([1, 2, Math.ceil(count / 2), count])].filter((n) => n <= count);
}

Deno.test("the list of places at which the disk is changed is complete", async () => {
  const counts = await passed();
  assert.deepEqual([...counts.keys()].sort(), [...DISK_POINTS].sort());
  const folder = new URL(".", import.meta.url);
  const change =
    /(?<![\w."#])(?:rename|rm|mkdir|writeFile|unlink|writeSafetensors|open\((?=this|partial))\b(?:\()?|\.(?:sync|datasync|appendFile|writeFile|truncate)\(/g;
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".ts") || name.endsWith("_test.ts")) continue;
    const text = (await readFile(new URL(name, folder), "utf8"))
      .replaceAll(/^import [^;]*;/gm, "").replaceAll(/\/\*\*[^]*?\*\/|\/\/.*/g, "");
    for (const { index, 0: found } of text.matchAll(change)) {
      const before = text.slice(Math.max(0, index - 120), index);
      assert.match(before, /onDisk\([^;]*$/, `${name} calls ${found} outside of onDisk`);
    }
  }
});

for (const kind of ["fails", "is half done and fails", "is done and told to have failed"]) {
  Deno.test(`whatever change of the disk ${kind}, a run comes to the same bytes`, async () => {
    const expected = await results();
    const tidied = new Set<DiskPoint>();
    for (const [point, count] of await passed()) {
      for (const pass of chosen(count)) {
        await inFolder(async (root) => {
          await prepared(root);
          let passes = 0;
          injectDiskFault(async (at, act) => {
            if (TIDY_POINTS.some((tidy) => tidy === at)) tidied.add(at);
            if (at !== point || ++passes !== pass) return await act();
            if (kind !== "fails") await act(kind.startsWith("is half") ? 0.5 : 1);
            throw ENOSPC();
          });
          try {
            await scenario(root).catch((error) => assert.match(String(error), /No space left/));
          } finally {
            injectDiskFault(undefined);
          }
          await mended(root, expected);
        });
      }
    }
    assert.deepEqual([...tidied].sort(), [...TIDY_POINTS].sort());
  });
}

Deno.test("killed before or after whatever change of the disk, a run comes to the same bytes", async () => {
  const expected = await results();
  const counts = await passed();
  await inFolder(async (root) => {
    const live = join(root, "live");
    await prepared(live);
    const killed: string[] = [];
    const passes = new Map<DiskPoint, number>();
    const snapshot = async (what: string) => {
      const copy = join(root, what);
      // What is being removed may go while it is copied.
      await cp(live, copy, { recursive: true }).catch(() => {});
      killed.push(copy);
    };
    injectDiskFault(async (point, act) => {
      const pass = (passes.get(point) ?? 0) + 1;
      passes.set(point, pass);
      if (!chosen(counts.get(point) ?? 0).includes(pass)) return await act();
      await snapshot(`${point}-${pass}-before`);
      const done = await act();
      await snapshot(`${point}-${pass}-after`);
      return done;
    });
    try {
      await scenario(live);
    } finally {
      injectDiskFault(undefined);
    }
    assert.ok(killed.length > 80, String(killed.length));
    for (const copy of killed) {
      await mended(copy, expected).catch((cause) => {
        throw new Error(`Killed at ${copy}`, { cause });
      });
    }
  });
});
