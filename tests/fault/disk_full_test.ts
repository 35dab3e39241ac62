import assert from "node:assert/strict";
import { join } from "node:path";
import { RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient, StatusError } from "../../services/rpc/mod.ts";
import { newestCheckpoint } from "../../trainer/mod.ts";
import { CONFIG, startReward, trainerOptions } from "./_training.ts";
import { Victim } from "./_victim.ts";

/** Runs a program with a small file system of its own at /mnt, which needs no rights but those of user namespaces. */
const ON_SMALL_DISK = [
  "unshare",
  ...["--user", "--map-root-user", "--mount", "sh", "-c"],
  'mount -t tmpfs -o size=2m tmpfs /mnt && exec "$0" "$@"',
];

async function canMount(): Promise<boolean> {
  const [program = "", ...args] = ON_SMALL_DISK;
  try {
    return (await new Deno.Command(program, { args: [...args, "true"] }).output()).success;
  } catch {
    return false;
  }
}

Deno.test("A full disk stops a run with its last checkpoint whole, and room lets it go on", {
  ignore: Deno.build.os !== "linux" || !await canMount(),
}, async () => {
  const server = startReward();
  const trainer = new Victim("services/trainer/main.ts", trainerOptions("/mnt"), {
    within: ON_SMALL_DISK,
  });
  const { address: reward } = await server.ready;
  const client = grpcClient(TrainerService, (await trainer.ready).address);
  try {
    // Its disk, seen from here.
    const runs = `/proc/${trainer.pid}/root/mnt`;
    const filler = join(runs, "filler");
    await Deno.writeFile(filler, new Uint8Array(1.2 * 2 ** 20));
    const rewards = [{ name: "symmetry", endpoint: reward }];
    const config = { ...CONFIG, rewards, iterations: 40, checkpointEvery: 1, sampleEvery: 0 };
    await client.startRun({ runId: "run", config });
    for await (const _ of client.watchRun({ runId: "run" }));
    const { run } = await client.getRun({ runId: "run" });
    assert.equal(run?.state, RunState.FAILED);
    assert.match(run.reason, /ENOSPC|[Nn]o space left/);
    const last = run.checkpoints.at(-1) ?? 0;
    assert.ok(last > 0);
    assert.equal((await newestCheckpoint(join(runs, "run", "checkpoints")))?.checkpoint.step, last);

    const rest = new Uint8Array(2 ** 12);
    const isFull = (error: unknown) =>
      error instanceof StatusError && error.status === "RESOURCE_EXHAUSTED";
    const fill = await Deno.open(filler, { append: true });
    await assert.rejects(async () => {
      while (true) await fill.write(rest);
    });
    fill.close();
    await assert.rejects(client.startRun({ runId: "other", config }), isFull);

    await Deno.remove(filler);
    await client.resumeRun({ runId: "run", iterations: last + 2 });
    for await (const _ of client.watchRun({ runId: "run" }));
    const resumed = await client.getRun({ runId: "run" });
    assert.equal(resumed.run?.state, RunState.FINISHED, String(resumed.run?.reason));
    assert.equal(resumed.run.checkpoints.at(-1), last + 2);
  } finally {
    client.close();
    await Promise.all([server.end(), trainer.end()]);
  }
});
