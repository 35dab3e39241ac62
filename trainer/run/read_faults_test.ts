import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, inFolder, result, undisturbed, until, world } from "../testing/run_world.ts";
import { injectReadFault, READ_POINTS, type ReadPoint } from "./_disk.ts";
import { RunConflictError, RunFileError, RunStore } from "./mod.ts";

const dependencies = () => world({ dark: new FakeReward(0.2) });

const THIRD = { ...CONFIG, iterations: 1, sampleEvery: 0 };

const ERRORS = {
  EMFILE: "too many open files",
  EACCES: "permission denied",
  EIO: "i/o error",
};

/** Opens a folder of runs, calls `work`, and closes it. */
async function opened<T>(root: string, work: (store: RunStore) => Promise<T>): Promise<T> {
  const store = await RunStore.open(root, dependencies());
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** A folder with a run of nine iterations, and another run; where it is damaged, the newest checkpoint is. */
async function prepared(root: string, { isDamaged }: { readonly isDamaged: boolean }) {
  await opened(root, async (store) => {
    await until((await store.start("run", CONFIG)).run);
    const other = { ...CONFIG, iterations: 1, sampleEvery: 0 };
    await until((await store.start("other", other)).run);
  });
  // As a run that had an estimate has.
  await writeFile(join(root, "run", "plan.json"), "{}");
  if (!isDamaged) return;
  const file = join(root, "run", "checkpoints", "step-000009", "lora.safetensors");
  const bytes = await readFile(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(file, bytes);
}

/** Resumes the run for a tenth iteration: how it ended, or why it cannot be read or was refused. */
async function resumed(
  store: RunStore,
): Promise<{ readonly state: string; readonly reason: string }> {
  const reason = store.unreadable.get("run");
  if (reason !== undefined) return { state: "unreadable", reason };
  const run = store.get("run");
  try {
    if (run.ended && (run.state !== "finished" || run.step < 10)) await store.resume("run", 10);
  } catch (error) {
    if (!(error instanceof RunFileError)) throw error;
    return { state: "refused", reason: error.message };
  }
  await until(run);
  // Where it only waited for a while, that it did.
  const reasons = run.log.events.map((event) => event.type === "state" ? event.reason : "");
  return { state: run.state, reason: reasons.filter((reason) => reason !== "").join("\n") };
}

/** sha256 of each file of the run, but its log, under its path. */
async function digests(root: string): Promise<Map<string, string>> {
  const folder = join(root, "run");
  const out = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name === "events.jsonl" || entry.name === "plan.json") continue;
    const path = join(entry.parentPath, entry.name);
    const digest = createHash("sha256").update(await readFile(path)).digest("hex");
    out.set(path.slice(folder.length + 1), digest);
  }
  return out;
}

/** Whether what is read is the folder of runs, the run's own, or that of the third, before it is there. */
function isOf(
  root: string,
  { point, path }: { readonly point: ReadPoint; readonly path: string },
): boolean {
  return point === "config.stat" || path === root || `${path}/`.startsWith(join(root, "run", "/"));
}

/** How often each point of the run's folder is passed when the run is opened and resumed. */
async function passed(base: string): Promise<Map<ReadPoint, number>> {
  const counts = new Map<ReadPoint, number>();
  await copied(base, async (root) => {
    injectReadFault((point, path) => {
      if (isOf(root, { point, path })) counts.set(point, (counts.get(point) ?? 0) + 1);
    });
    try {
      await opened(root, async (store) => {
        await resumed(store);
        await until((await store.start("third", THIRD)).run);
      });
    } finally {
      injectReadFault(undefined);
    }
  });
  return counts;
}

async function copied(base: string, work: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await cp(base, root, { recursive: true });
    await work(root);
  });
}

Deno.test("the list of places at which a run's folder is read is complete", async () => {
  const seen = new Set<ReadPoint>();
  for (const isDamaged of [false, true]) {
    await inFolder(async (base) => {
      await prepared(base, { isDamaged });
      for (const point of (await passed(base)).keys()) seen.add(point);
    });
  }
  assert.deepEqual([...seen].sort(), [...READ_POINTS].sort());
  // These read models, pictures and what a caller names, no run's folder.
  const others = ["list_models.ts", "pretraining.ts", "run_pipeline.ts", "_sha256_file.ts"];
  const folder = new URL(".", import.meta.url);
  const reading =
    /(?<![\w."#])(?:(?:readFile|readdir|l?stat|access|opendir|createReadStream|openSafetensors|sha256File|exists(?:Sync)?|readFileSync|statSync)\b|(?<!static async )open\((?!this|partial))|\.(?:stat|read)\(|Deno\.(?:read|stat|lstat)/g;
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".ts") || name.endsWith("_test.ts") || others.includes(name)) continue;
    const text = (await readFile(new URL(name, folder), "utf8"))
      .replaceAll(/^import [^;]*;/gm, "").replaceAll(/\/\*\*[^]*?\*\/|\/\/.*/g, "");
    for (const { index, 0: found } of text.matchAll(reading)) {
      const before = text.slice(Math.max(0, index - 200), index);
      assert.match(before, /fromDisk\([^;]*$/, `${name} calls ${found} outside of fromDisk`);
    }
  }
});

/** What a run goes on without. */
const NOT_NEEDED: readonly ReadPoint[] = ["plan.read"];

for (const [code, text] of Object.entries(ERRORS)) {
  Deno.test(`${code} wherever a run is read: nothing is moved, removed or begun anew, the file is named, and others are there`, async () => {
    const expected = await undisturbed(10);
    for (const isDamaged of [false, true]) {
      await inFolder(async (base) => {
        await prepared(base, { isDamaged });
        const before = await digests(base);
        const log = await readFile(join(base, "run", "events.jsonl"), "utf8");
        for (const [point, count] of await passed(base)) {
          // A damaged checkpoint is for what only it reaches.
          if (isDamaged !== (point === "aside.stat")) continue;
          for (const pass of new Set([1, Math.ceil(count / 2), count])) {
            await copied(base, async (root) => {
              let [passes, failed] = [0, ""];
              injectReadFault((at, path) => {
                if (at !== point || !isOf(root, { point, path }) || ++passes !== pass) return;
                failed = path;
                throw Object.assign(new Error(`${code}: ${text}`), { code });
              });
              const what = `${point}, pass ${pass} of ${count}`;
              try {
                await opened(root, async (store) => {
                  const third = store.start("third", THIRD);
                  if (point === "config.stat") {
                    await assert.rejects(third, new RegExp(`config.json cannot be read: ${code}`));
                    assert.ok(!existsSync(join(root, "third")));
                  } else {
                    await third;
                  }
                  const { state, reason } = await resumed(store);
                  assert.ok(store.list().some(({ id }) => id === "other"), what);
                  // The last event says how the run ended, which is so without it.
                  const isEnd = point === "log.stat" && pass === count;
                  if (isEnd || point === "config.stat" || NOT_NEEDED.includes(point)) {
                    assert.equal(state, "finished", what);
                    return;
                  }
                  assert.match(reason, new RegExp(`${failed}.* cannot be read: ${code}`), what);
                  // Too many open files are few again later.
                  const end = code === "EMFILE" ? "finished" : "failed";
                  assert.ok([end, "unreadable", "refused"].includes(state), `${what}: ${state}`);
                  // Where the file cannot be read, nobody may take the folder.
                  await assert.rejects(
                    store.start("run", { ...CONFIG, seed: 8 }),
                    RunConflictError,
                  );
                }).catch((error) => {
                  if (point !== "store.list") throw error;
                  assert.match(String(error), new RegExp(`${root} cannot be read: ${code}`), what);
                });
              } finally {
                injectReadFault(undefined);
              }
              const after = await digests(root);
              for (const [file, digest] of before) {
                const moved = file.replace("step-000009", "damaged-step-000009-1");
                const found = after.get(file) ?? (isDamaged ? after.get(moved) : undefined);
                assert.equal(found, digest, `${what}: ${file}`);
              }
              const events = await readFile(join(root, "run", "events.jsonl"), "utf8");
              const isDoneAgain = isDamaged && code === "EMFILE";
              assert.ok(isDoneAgain || events.startsWith(log), `${what}: the log was cut`);
              await opened(root, async (store) => {
                const { state, reason } = await resumed(store);
                assert.equal(state, "finished", `${what}: ${reason}`);
              });
              assert.equal(await result(root, { step: 10 }), expected, what);
            });
          }
        }
      });
    }
  });
}

Deno.test("a folder in place of a file: the run names it, others go on, and all is well when the file is back", async () => {
  const expected = await undisturbed(10);
  await inFolder(async (base) => {
    await prepared(base, { isDamaged: false });
    const step = join("checkpoints", "step-000009");
    const files = ["config.json", "events.jsonl", "checkpoints", join(step, "manifest.json")]
      .concat(join(step, "lora.safetensors"), join(step, "optimizer.safetensors"));
    for (const file of files) {
      await copied(base, async (root) => {
        const [path, kept] = [join(root, "run", file), join(root, "kept")];
        await rename(path, kept);
        // The other way round for what is a folder.
        if (file === "checkpoints") await writeFile(path, "");
        else await mkdir(path);
        await opened(root, async (store) => {
          const { state, reason } = await resumed(store);
          assert.match(reason, new RegExp(`^File ${path} cannot be read: `, "m"));
          assert.notEqual(state, "finished");
          assert.equal(store.list().find(({ id }) => id === "other")?.state, "finished");
          await rm(path, { recursive: true });
          await rename(kept, path);
          // The same trainer reads it again when it is asked to.
          await until(await store.resume("run", 10));
          assert.equal(store.get("run").state, "finished");
          assert.deepEqual([...store.unreadable], []);
        });
        assert.equal(await result(root, { step: 10 }), expected, file);
      });
    }
  });
});

Deno.test("a folder that came after the trainer is not taken for a new run's", async () => {
  await inFolder(async (root) => {
    await opened(root, async (store) => {
      await until((await store.start("run", { ...CONFIG, iterations: 1 })).run);
      await cp(join(root, "run"), join(root, "copy"), { recursive: true });
      const before = await readFile(join(root, "copy", "events.jsonl"), "utf8");
      await assert.rejects(store.start("copy", CONFIG), RunConflictError);
      assert.equal(await readFile(join(root, "copy", "events.jsonl"), "utf8"), before);
    });
  });
});
