import assert from "node:assert/strict";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { z } from "zod";
import { createLogger } from "../../base/mod.ts";
import { connectNats } from "../../services/cluster/mod.ts";
import { findClient } from "../../tools/mod.ts";
import { HELM, helm, manifestsOf } from "./_chart.ts";

const NATS = findClient("nats-server");
const log = createLogger({ level: "silent" });
const TOKEN = "a token of enough letters";

/** What NATS tells of its streams, as far as the chart's trigger reads it. */
const stateSchema = z.object({
  account_details: z.array(z.object({
    name: z.string(),
    stream_detail: z.array(z.object({
      name: z.string(),
      state: z.object({ messages: z.int() }),
    })),
  })),
});

Deno.test({
  name:
    "NATS starts with the chart's configuration, and says where KEDA looks how many jobs there are",
  ignore: HELM === undefined || NATS === undefined,
  fn: async () => {
    const { stdout } = await helm("template", {
      models: { claim: "models" },
      cluster: { enabled: true, tokenSecret: "nats", workers: { autoscaling: { max: 9 } } },
      keda: { enabled: true },
    });
    const manifests = manifestsOf(stdout);
    const text = manifests.find(({ kind }) => kind === "ConfigMap")?.data?.["nats.conf"] ?? "";
    const args = manifests.find(({ kind }) => kind === "StatefulSet")?.spec?.template?.spec
      .containers[0].args ?? [];
    const trigger = JSON.stringify(manifests.find(({ kind }) => kind === "ScaledObject")?.spec);
    const place =
      'account_details.#(name==\\"$G\\").stream_detail.#(name==\\"DRTUNE_JOBS\\").state.messages';
    assert.ok(trigger.includes(place), trigger);

    const folder = await Deno.makeTempDir();
    const [port, monitor] = freePorts(2);
    const file = join(folder, "nats.conf");
    await Deno.writeTextFile(
      file,
      text.replace("/data", join(folder, "data")).replace("4222", String(port))
        .replace("8222", String(monitor)).replace("/tmp/nats.pid", join(folder, "pid")),
    );
    const server = new Deno.Command(NATS ?? "", {
      args: args.map((word) =>
        word.replace("/etc/nats/nats.conf", file).replace("$(POD_NAME)", "t-nats-0")
          .replace("$(NATS_TOKEN)", TOKEN)
      ),
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      const asked = async (path: string) => {
        for (let tries = 0;; tries++) {
          try {
            const response = await fetch(`http://127.0.0.1:${monitor}${path}`);
            const body: unknown = await response.json();
            if (response.ok || tries === 100) return body;
          } catch (error) {
            if (tries === 100) throw error;
          }
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      assert.deepEqual(await asked("/healthz?js-server-only=true"), { status: "ok" });
      const servers = [`nats://127.0.0.1:${port}`];
      await assert.rejects(
        connectNats({ servers }, { name: "test", log }),
        /asks for a token or certificate/,
      );
      const nats = await connectNats({ servers, token: TOKEN }, { name: "test", log });
      const manager = await jetstreamManager(nats);
      await manager.streams.add({ name: "DRTUNE_JOBS", subjects: ["drtune.job.*"] });
      for (let i = 0; i < 3; i++) await jetstream(nats).publish("drtune.job.x", "job");
      const state = stateSchema.parse(await asked("/jsz?streams=true"));
      await nats.close();
      const account = state.account_details.find(({ name }) => name === "$G");
      const stream = account?.stream_detail.find(({ name }) => name === "DRTUNE_JOBS");
      assert.equal(stream?.state.messages, 3);
    } finally {
      try {
        server.kill("SIGKILL");
      } catch {
        // It ended by itself, which the test has told.
      }
      await server.status;
      await Deno.remove(folder, { recursive: true });
    }
  },
});

function freePorts(count: number): readonly number[] {
  const listeners = Array.from(
    { length: count },
    () => Deno.listen({ hostname: "127.0.0.1", port: 0 }),
  );
  const ports = listeners.map(({ addr: { port } }) => port);
  for (const listener of listeners) listener.close();
  return ports;
}
