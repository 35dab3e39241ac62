import assert from "node:assert/strict";
import { RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { CONFIG, startReward, startTrainer } from "./_training.ts";

/** Longest time in which a run notices, in seconds: two as documented, and more where others use the machine; it was 75. */
const NOTICED = 20;

Deno.test(
  "A reward that hangs pauses its run, which can be saved, goes on when it wakes, stops, and ends with its trainer",
  {
    ignore: Deno.build.os === "windows",
  },
  async () => {
    const runs = await Deno.makeTempDir({ prefix: "drtune-fault-" });
    const server = startReward();
    const trainer = startTrainer(runs);
    const { address: reward } = await server.ready;
    const client = grpcClient(TrainerService, (await trainer.ready).address);
    const signal = AbortSignal.timeout(120_000);
    const watched = new AbortController();
    try {
      const rewards = [{ name: "symmetry", endpoint: reward }];
      const config = { ...CONFIG, rewards, iterations: 10_000, checkpointEvery: 0, sampleEvery: 0 };
      await client.startRun({ runId: "run", config });
      const events = client.watchRun({ runId: "run" }, {
        signal: AbortSignal.any([signal, watched.signal]),
      })[Symbol.asyncIterator]();
      let reason = "";
      /** Reads events up to one, in seconds. */
      const until = async (kind: string, state?: RunState) => {
        const begun = performance.now();
        for (;;) {
          const { done, value } = await events.next();
          assert.ok(!done, `The run ended before ${kind}`);
          const { event } = value;
          if (event.case === "state" && event.value.state === RunState.FAILED) {
            assert.fail(event.value.reason);
          }
          if (event.case !== kind) continue;
          if (event.case === "state") {
            if (event.value.state !== state) continue;
            reason = event.value.reason;
          }
          return (performance.now() - begun) / 1000;
        }
      };
      const hang = async () => {
        await until("step");
        await until("step");
        Deno.kill(server.pid, "SIGSTOP");
        const seconds = await until("state", RunState.PAUSED);
        assert.ok(seconds < NOTICED, `paused after ${seconds} s`);
        assert.match(reason, /symmetry at .* does not answer/);
      };

      await hang();
      const { step } = await client.saveRun({ runId: "run" });
      assert.ok(await until("checkpoint") < NOTICED);
      const { run } = await client.getRun({ runId: "run" });
      assert.deepEqual(run?.checkpoints, [step]);
      // It waits again, and the answer comes when the reward wakes.
      await until("state", RunState.PAUSED);
      Deno.kill(server.pid, "SIGCONT");
      await until("step");

      await hang();
      const begun = performance.now();
      await client.stopRun({ runId: "run" });
      await until("state", RunState.STOPPED);
      assert.ok(performance.now() - begun < NOTICED * 1000);

      Deno.kill(server.pid, "SIGCONT");
      await client.resumeRun({ runId: "run" });
      watched.abort();
      const again = client.watchRun({ runId: "run", fromStep: 100_000 }, { signal });
      let isHung = false;
      for await (const { event } of again) {
        if (event.case !== "state") continue;
        if (event.value.state === RunState.RUNNING && !isHung) {
          isHung = true;
          Deno.kill(server.pid, "SIGSTOP");
        }
        if (event.value.state === RunState.PAUSED) break;
      }
      const told = performance.now();
      await trainer.end("SIGTERM");
      const seconds = (performance.now() - told) / 1000;
      assert.ok(seconds < 30, `SIGTERM took ${seconds} s`);
    } finally {
      client.close();
      // SIGKILL ends a stopped process too.
      await Promise.all([server.end(), trainer.end()]);
      await Deno.remove(runs, { recursive: true });
    }
  },
);
