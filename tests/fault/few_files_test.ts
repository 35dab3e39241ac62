import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { shortIterations } from "./_short_iterations.ts";
import { Victim } from "./_victim.ts";
import { CONFIG, outcome, startReward, train, trainerOptions } from "./_training.ts";

/** Files that a service may have open. */
const FILES = 256;
const within = ["prlimit", `--nofile=${FILES}:${FILES}`];
const ignore = Deno.build.os !== "linux";

/** Opens connections that send `text` and nothing more, one after the other, each open when the next is asked for. */
async function idle(
  address: string,
  { count, text = "" }: { readonly count: number; readonly text?: string },
): Promise<Socket[]> {
  const [host = "", port] = address.split(":");
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(Number(port), host);
    socket.on("error", () => {});
    // So that its end is seen.
    socket.resume();
    sockets.push(socket);
    await Promise.race([once(socket, "connect"), once(socket, "close")]);
    socket.write(text);
  }
  return sockets;
}

/** Lets a process open no more files than so many. */
async function allow({ pid }: Victim, files: number): Promise<void> {
  const args = ["--pid", String(pid), `--nofile=${files}:${FILES}`];
  const { success } = await new Deno.Command("prlimit", { args }).output();
  assert.ok(success, "prlimit failed");
}

Deno.test(
  "300 idle connections to a trainer of 256 files leave its run alone, and without any file left it waits",
  {
    ignore,
  },
  async () => {
    const folder = await Deno.makeTempDir({ prefix: "drtune-fault-" });
    const { models, runs, fields } = await shortIterations(folder);
    const server = startReward();
    const options = trainerOptions(runs, { models });
    const trainer = new Victim("services/trainer/main.ts", options, { within });
    const client = grpcClient(TrainerService, (await trainer.ready).address);
    let sockets: Socket[] = [];
    try {
      const { address: reward } = await server.ready;
      const { address } = await trainer.ready;
      const rewards = [{ name: "symmetry", endpoint: reward }];
      const config = { ...CONFIG, ...fields, rewards, iterations: 60 };
      await client.startRun({ runId: "run", config });
      const states: [RunState, string][] = [];
      let isPaused = false;
      const signal = AbortSignal.timeout(600_000);
      for await (const { event } of client.watchRun({ runId: "run" }, { signal })) {
        if (event.case === "state") {
          states.push([event.value.state, event.value.reason]);
          if (event.value.state === RunState.PAUSED && !isPaused) {
            isPaused = true;
            assert.match(event.value.reason, /too many open files/i);
            await allow(trainer, FILES);
          }
        }
        if (event.case !== "step") continue;
        if (event.value.step === 1) sockets = await idle(address, { count: 300 });
        // Fewer than it has open: whatever it opens next fails.
        if (event.value.step === 5 && !isPaused) await allow(trainer, 10);
      }
      assert.equal(states.at(-1)?.[0], RunState.FINISHED, JSON.stringify(states));
      assert.ok(isPaused);
      // What nothing disturbs comes to the same bits.
      await train(address, { id: "calm", reward, fields: { ...fields, iterations: 60 } });
      assert.deepEqual(await outcome(runs, "run"), await outcome(runs, "calm"));
    } finally {
      sockets.forEach((socket) => socket.destroy());
      client.close();
      await Promise.all([server.end(), trainer.end()]);
      await Deno.remove(folder, { recursive: true });
    }
  },
);

Deno.test(
  "400 half requests to a gateway of 256 files: it answers others, and each is closed after 20 s at most",
  {
    ignore,
  },
  async () => {
    const gateway = new Victim(
      "services/gateway/main.ts",
      ["--trainer", "127.0.0.1:9", "--port", "0"],
      { within },
    );
    const { address } = await gateway.ready;
    const begun = performance.now();
    const text = "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n";
    const sockets = await idle(address, { count: 400, text });
    try {
      const closed = Promise.all(
        sockets.map((socket) => socket.closed ? undefined : once(socket, "close")),
      );
      const healthy = async () => {
        const headers = { connection: "close" };
        const response = await fetch(`http://${address}/healthz`, { headers });
        await response.body?.cancel();
        assert.equal(response.status, 200);
      };
      await healthy();
      // What there is room for stays, as long as a slow caller may take.
      const open = sockets.filter((socket) => !socket.closed).length;
      assert.ok(open <= FILES / 4, `${open} are open`);
      await closed;
      // The limit of 20 s, and what a machine that others use takes longer.
      const seconds = (performance.now() - begun) / 1000;
      assert.ok(seconds < 40, `closed after ${seconds} s`);
      await healthy();
    } finally {
      sockets.forEach((socket) => socket.destroy());
      await gateway.end();
    }
  },
);
