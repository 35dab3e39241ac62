import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, inFolder, result, undisturbed, until, world } from "../testing/run_world.ts";
import { newestCheckpoint, RunStore, type TrainingRun } from "./mod.ts";

const rewards = () => ({ dark: new FakeReward(0.2) });

/** Trains a run to its end, lets `spoil` at its checkpoints, and resumes it in a store opened anew. */
async function resumedAfter(
  spoil: (checkpoints: string) => Promise<void>,
  judge: (run: TrainingRun, told: { before: string[]; checkpoints: string }) => Promise<void>,
): Promise<void> {
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world(rewards()));
    await until((await store.start("run", CONFIG)).run);
    await store.close();
    const checkpoints = join(root, "run", "checkpoints");
    await spoil(checkpoints);
    const before = await listed(checkpoints);
    const again = await RunStore.open(root, world(rewards()));
    const run = again.get("run");
    try {
      await again.resume("run", 10);
      await until(run);
      await judge(run, { before, checkpoints });
    } finally {
      await again.close();
    }
  });
}

/** Every file of a folder, in order. */
async function listed(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).sort();
}

async function flipLastBit(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(file, bytes);
}

const STEPS = ["step-000004", "step-000008", "step-000009"];

/** What may be wrong with the newest checkpoint without proving it damaged: what to do, the file, the reason. */
const UNREADABLE: Record<string, [(folder: string) => Promise<void>, RegExp]> = {
  "an unknown field in each manifest": [
    async (folder) => {
      for (const step of STEPS) {
        const file = join(folder, step, "manifest.json");
        const manifest = JSON.parse(await readFile(file, "utf8"));
        await writeFile(file, JSON.stringify({ ...manifest, note: "mine" }));
      }
    },
    /step-000009\/manifest\.json cannot be read: Field note is not known here/,
  ],
  "a manifest that is no JSON": [
    (folder) => writeFile(join(folder, "step-000009", "manifest.json"), "{"),
    /step-000009\/manifest\.json cannot be read: .*JSON/,
  ],
  "a manifest of another step": [
    async (folder) => {
      const manifest = await readFile(join(folder, "step-000008", "manifest.json"));
      await writeFile(join(folder, "step-000009", "manifest.json"), manifest);
    },
    /step-000009\/manifest\.json is of step 8, expected step-000009/,
  ],
  "a manifest that is gone": [
    (folder) => rm(join(folder, "step-000009", "manifest.json")),
    /step-000009\/manifest\.json cannot be read: ENOENT/,
  ],
  "a LoRA that is gone": [
    (folder) => rm(join(folder, "step-000009", "lora.safetensors")),
    /step-000009\/lora\.safetensors cannot be read: ENOENT/,
  ],
  "a link in a circle (ELOOP)": [
    (folder) => linked(join(folder, "step-000009", "lora.safetensors"), "lora.safetensors"),
    /step-000009\/lora\.safetensors cannot be read: ELOOP/,
  ],
  ...Deno.build.os === "linux" && {
    // The first page of a process's memory cannot be read: the system answers EIO.
    "a disk that answers EIO": [
      (folder) => linked(join(folder, "step-000009", "optimizer.safetensors"), "/proc/self/mem"),
      /step-000009\/optimizer\.safetensors cannot be read: EIO/,
    ],
  },
  ...Deno.build.os !== "windows" && Deno.uid() !== 0 && {
    "a file of somebody else (EACCES)": [
      (folder) => Deno.chmod(join(folder, "step-000009", "lora.safetensors"), 0),
      /step-000009\/lora\.safetensors cannot be read: EACCES/,
    ],
  },
};

async function linked(file: string, to: string): Promise<void> {
  await rm(file);
  await symlink(to, file);
}

for (const [what, [spoil, reason]] of Object.entries(UNREADABLE)) {
  Deno.test(`${what} is no damage: the run fails, names the file, and all stays where it is`, async () => {
    await resumedAfter(spoil, async (run, { before, checkpoints }) => {
      assert.equal(run.state, "failed");
      assert.match(run.log.lastState?.reason ?? "", reason);
      assert.deepEqual(await listed(checkpoints), before);
      assert.equal(run.step, 9);
      assert.equal(run.log.latest?.step, 9, "the log was cut");
    });
  });
}

Deno.test("a file that is proven damaged is moved aside with an event, and the bytes come out the same", async () => {
  const expected = await undisturbed(10);
  for (const file of ["lora.safetensors", "optimizer.safetensors"]) {
    await resumedAfter(
      (folder) => flipLastBit(join(folder, "step-000009", file)),
      async (run, { before, checkpoints }) => {
        assert.equal(run.state, "finished", String(run.log.lastState?.reason));
        const [event, ...more] = run.log.events.filter((e) => e.type === "damage");
        assert.deepEqual(more, []);
        assert.partialDeepStrictEqual(event, {
          step: 9,
          movedTo: "checkpoints/damaged-step-000009-1",
        });
        assert.match(event?.reason ?? "", new RegExp(`step-000009/${file} has sha256 \\w+, expec`));
        const kept = before.filter((name) => name.startsWith("step-000009"))
          .map((name) => name.replace("step-000009", "damaged-step-000009-1"));
        const after = await listed(checkpoints);
        assert.deepEqual(after.filter((name) => name.startsWith("damaged")), kept);
        assert.equal(await result(join(checkpoints, "../.."), { step: 10 }), expected);
      },
    );
  }
});

Deno.test("a file cut short is damage, also where its header no longer fits", async () => {
  await resumedAfter(
    (folder) => Deno.truncate(join(folder, "step-000009", "lora.safetensors"), 5),
    (run) => {
      assert.deepEqual(run.log.events.flatMap((e) => e.type === "damage" ? e.step : []), [9]);
      assert.equal(run.state, "finished", String(run.log.lastState?.reason));
      return Promise.resolve();
    },
  );
});

Deno.test("where every checkpoint is damaged, or all are gone, a run does not begin anew", async () => {
  await resumedAfter(async (folder) => {
    for (const step of STEPS) await flipLastBit(join(folder, step, "lora.safetensors"));
  }, async (run, { before, checkpoints }) => {
    assert.equal(run.state, "failed");
    assert.match(run.log.lastState?.reason ?? "", /^No checkpoint is whole: File .*step-000009/);
    assert.deepEqual(await listed(checkpoints), before);
    await assert.rejects(newestCheckpoint(checkpoints), { name: "DamagedCheckpointError" });
  });
  await resumedAfter(async (folder) => {
    await rename(folder, `${folder}-elsewhere`);
    await mkdir(folder);
  }, (run) => {
    assert.equal(run.state, "failed");
    assert.match(run.log.lastState?.reason ?? "", /checkpoints is empty, expected .* of step 9/);
    assert.equal(run.log.latest?.step, 9);
    return Promise.resolve();
  });
});
