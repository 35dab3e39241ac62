import assert from "node:assert/strict";
import { join } from "node:path";
import type { ServiceDefinition } from "./service_definition.ts";
import type { ServiceStatus } from "./state_folder.ts";
import { SupervisedService } from "./supervised_service.ts";

/** Runs a faulty service until its status is one that is waited for; answers all statuses and its log. */
async function supervise(
  fault: string,
  until: (status: ServiceStatus) => boolean,
  check = 60_000,
) {
  const folder = await Deno.makeTempDir();
  const definition: ServiceDefinition = {
    name: "faulty",
    kind: "reward",
    host: "127.0.0.1",
    replicas: 1,
    port: 1,
    entry: "services/cli/stack/testing/faulty_service.ts",
    args: [fault],
    permissions: ["--allow-all"],
    env: {},
    health: "",
    secure: false,
    files: [],
  };
  const seen: ServiceStatus[] = [];
  const reached = Promise.withResolvers<void>();
  const logFile = join(folder, "faulty.log");
  const service: SupervisedService = new SupervisedService(definition, {
    folder,
    logFile,
    patience: { check, hung: 60, firstWait: 1, longestWait: 4 },
    onChange: () => {
      seen.push(service.status);
      if (until(service.status)) reached.resolve();
    },
  });
  try {
    const firstReady = service.firstReady.then(() => "ready", (error: Error) => error.message);
    await reached.promise;
    await service.stop(1000);
    assert.equal(service.status.state, "stopped");
    assert.equal(service.status.pid, undefined);
    return { seen, firstReady: await firstReady, log: await Deno.readTextFile(logFile) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("A service that ends is started again, each time it does", async () => {
  const { seen, firstReady, log } = await supervise("ends", ({ restarts }) => restarts === 3);
  assert.equal(firstReady, "ready");
  assert.deepEqual(
    seen.slice(0, 6).map(({ state, restarts }) => [state, restarts]),
    [0, 1, 2].flatMap((n) => [["ready", n], ["restarting", n + 1]]),
  );
  assert.equal(seen[1]?.reason, "Ended with exit code 0");
  assert.match(log, /"msg":"Serving"[\s\S]*drtune: Ended with exit code 0; starting again in/);
});

Deno.test("A service that lives and answers no health check is ended and started again", async () => {
  const { seen, log } = await supervise("hangs", ({ restarts }) => restarts === 1, 20);
  const states = seen.map(({ state }) => state);
  assert.deepEqual(states.slice(0, 3), ["ready", "unhealthy", "restarting"]);
  assert.match(seen[1]?.reason ?? "", /^UNAVAILABLE|^DEADLINE_EXCEEDED/);
  assert.match(log, /drtune: no answer for 0\.06 s/);
});

Deno.test("A service that ends before it is ready says why", async () => {
  const { firstReady } = await supervise("fails", ({ restarts }) => restarts === 1);
  assert.match(firstReady, /^Service "faulty" ended with exit code 1.*:\nThe port is in use$/);
});
