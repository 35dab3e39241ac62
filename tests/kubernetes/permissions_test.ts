import assert from "node:assert/strict";
import { cp, mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { NATS_SERVER, NatsServer } from "../cluster/mod.ts";
import { withFolder } from "../support/mod.ts";
import { HELM, helm, manifestsOf } from "./_chart.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

/** A port that nobody listens to. */
async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert.ok(typeof address === "object" && address !== null);
  return String(address.port);
}

Deno.test({
  name: "A reward, a trainer and a worker train with the words that the chart gives them",
  ignore: HELM === undefined || NATS_SERVER === undefined,
  fn: () =>
    withFolder(async (folder) => {
      const place = (name: string) => join(folder, name);
      for (const name of ["models", "runs", "cache", "nats"]) await mkdir(place(name));
      await cp(join(ROOT, "tests/golden/tiny-sd"), place("models/tiny-sd"), { recursive: true });
      const nats = await NatsServer.start(place("nats"));
      const { code, stdout, stderr } = await helm("template", {
        models: { claim: "models" },
        cluster: { enabled: true, servers: [nats.address] },
      });
      assert.equal(code, 0, stderr);
      const reward = await freePort();
      const paths: Readonly<Record<string, string>> = {
        "/usr/local/bin/deno": Deno.execPath(),
        "/app": ROOT,
        ...Object.fromEntries(["models", "runs", "cache"].map((name) => [`/${name}`, place(name)])),
      };
      const services = await Promise.all(
        manifestsOf(stdout).flatMap(({ metadata, spec }) => {
          const pod = spec?.template?.spec.containers[0];
          if (pod === undefined || metadata.name === "t-gateway") return [];
          return [
            (async () => {
              const [own, metrics] = [await freePort(), await freePort()];
              // The container's paths, ports and names are this machine's.
              const words = [...pod.command, ...pod.args].map((word) =>
                word.replaceAll(
                  /\/usr\/local\/bin\/deno|\/(?:app|models|runs|cache)\b/g,
                  (path) => paths[path] ?? path,
                )
                  .replaceAll("dns:///t-symmetry:50051", `127.0.0.1:${reward}`)
                  .replaceAll("50051", reward).replaceAll("50060", own).replaceAll("9464", metrics)
                  .replace("$(POD_NAME)", "worker-0")
              );
              const child = new Deno.Command(Deno.execPath(), {
                args: words.slice(1),
                cwd: place(pod.workingDir === undefined ? "models" : "cache"),
                env: { NO_COLOR: "1" },
                stdin: "null",
                stdout: "null",
                stderr: "piped",
              }).spawn();
              const log = new Response(child.stderr).text();
              return { name: metadata.name, child, log, port: own };
            })(),
          ];
        }),
      );
      let state = RunState.UNSPECIFIED;
      const workers = new Set<unknown>();
      const trainer = services.find(({ name }) => name === "t-trainer");
      const client = grpcClient(TrainerService, `127.0.0.1:${trainer?.port}`, {
        retry: { attempts: 60 },
      });
      try {
        const signal = AbortSignal.timeout(400_000);
        const prompts = { source: { case: "list" as const, value: { prompts: ["a fox"] } } };
        const config = {
          ...{ model: "tiny-sd", prompts, method: { k: 1, m: 1 }, sampler: { steps: 2 } },
          ...{
            latentHeight: 8,
            latentWidth: 8,
            iterations: 2,
            checkpointEvery: 1,
            lora: { rank: 2 },
          },
          rewards: [{ name: "symmetry" }],
        };
        await client.startRun({ runId: "run", config }, { signal });
        for await (const { event } of client.watchRun({ runId: "run" }, { signal })) {
          if (event.case === "state") state = event.value.state;
          if (event.case === "step") event.value.workers.forEach((name) => workers.add(name));
        }
      } finally {
        client.close();
        for (const { child } of services) child.kill("SIGTERM");
        const logs = await Promise.all(
          services.map(async ({ name, log, child }) => {
            const text = await log;
            await child.status;
            return `${name}: ${text.slice(-2000)}`;
          }),
        );
        await nats.kill();
        if (state !== RunState.FINISHED) console.error(logs.join("\n"));
        for (const log of logs) assert.doesNotMatch(log, /NotCapable|Requires \w+ access/);
      }
      assert.equal(state, RunState.FINISHED);
      assert.ok(workers.size > 0, "no worker computed anything");
    }),
});
