import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { RunState, TrainerService, WatchRunRequestSchema } from "../../proto/mod.ts";
import { StatusError } from "./errors.ts";
import { grpcClient } from "./grpc_client.ts";
import { startGrpcServer } from "./grpc_server.ts";
import { grpcService, type Handlers } from "./grpc_service.ts";
import { createLogger } from "../../base/mod.ts";
import { remoteHandlers, serveHandlers } from "./worker_handlers.ts";

const none = async function* () {};
const missing = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test"));

Deno.test("Handlers at the other end of a port answer, stream, fail and are cancelled as if here", async () => {
  const cancelled = Promise.withResolvers<unknown>();
  const left = Promise.withResolvers<void>();
  const handlers: Handlers<typeof TrainerService> = {
    startRun: missing,
    getRun: ({ runId }) => Promise.resolve({ run: { id: `${runId}!`, state: RunState.PAUSED } }),
    listWorkers: () => Promise.reject(new Error("None")),
    listRuns: () => Promise.reject(new RangeError("Secret")),
    stopRun: missing,
    saveRun: (_request, { signal }) =>
      new Promise(() => {
        signal.addEventListener("abort", () => cancelled.resolve(signal.reason));
      }),
    resumeRun: missing,
    deleteRun: () => Promise.reject(new TypeError("Known")),
    swapReward: missing,
    planRun: missing,
    describeTrainer: missing,
    sample: none,
    evaluateRun: none,
    exportLora: none,
    async *watchRun({ fromStep }) {
      try {
        for (let step = fromStep; step < 100; step++) {
          yield { event: { case: "step", value: { step } } };
        }
      } finally {
        left.resolve();
      }
    },
  };
  const { port1, port2 } = new MessageChannel();
  serveHandlers(TrainerService, handlers, {
    port: port2,
    mapError: (error) =>
      error instanceof TypeError ? new StatusError("NOT_FOUND", error.message) : undefined,
  });
  const server = await startGrpcServer({
    services: [grpcService(TrainerService, remoteHandlers(TrainerService, port1))],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
  const client = grpcClient(TrainerService, server.address);
  try {
    const answers = await Promise.all(["a", "b"].map((runId) => client.getRun({ runId })));
    assert.deepEqual(answers.map(({ run }) => [run?.id, run?.state]), [
      ["a!", RunState.PAUSED],
      ["b!", RunState.PAUSED],
    ]);
    await assert.rejects(client.deleteRun({}), { status: "NOT_FOUND", message: "Known" });
    await assert.rejects(client.listRuns({}), { status: "INTERNAL", message: /^Internal error/ });
    await assert.rejects(client.saveRun({}, { timeoutMs: 50 }), { status: "DEADLINE_EXCEEDED" });
    assert.ok(await cancelled.promise instanceof StatusError);

    const steps: number[] = [];
    for await (const { event } of client.watchRun({ fromStep: 95 })) {
      if (event.case === "step") steps.push(event.value.step);
    }
    assert.deepEqual(steps, [95, 96, 97, 98, 99]);
    await left.promise;
  } finally {
    client.close();
    await server.stop({ drainSeconds: 0.1 });
    port1.close();
    port2.close();
  }
});

Deno.test("What a stream has at hand crosses together, and a slow one is not waited for", async () => {
  const go = Promise.withResolvers<void>();
  const watchRun = async function* (
    { fromStep }: { readonly fromStep: number },
  ) {
    for (let step = fromStep; step < 5000; step++) {
      // Told before what comes after it is there.
      if (step === 4999) await go.promise;
      yield { event: { case: "step" as const, value: { step } } };
    }
    throw new StatusError("ABORTED", "At the end");
  };
  const { port1, port2 } = new MessageChannel();
  const handlers: Handlers<typeof TrainerService> = {
    ...{
      startRun: missing,
      getRun: missing,
      listRuns: missing,
      listWorkers: missing,
      stopRun: missing,
    },
    ...{ saveRun: missing, resumeRun: missing, deleteRun: missing, swapReward: missing },
    ...{ sample: none, evaluateRun: none, exportLora: none, watchRun },
    ...{ planRun: missing, describeTrainer: missing },
  };
  serveHandlers(TrainerService, handlers, { port: port2 });
  let sent = 0;
  const post = port2.postMessage.bind(port2);
  port2.postMessage = (message: unknown) => {
    sent++;
    post(message);
  };
  const remote = remoteHandlers(TrainerService, port1);
  const { signal } = new AbortController();
  const context = { signal, peer: "", metadata: () => undefined };
  const steps: number[] = [];
  const watching = async () => {
    const request = create(WatchRunRequestSchema, { fromStep: 0 });
    for await (const { event } of remote.watchRun(request, context)) {
      if (event?.case === "step") steps.push(event.value.step ?? NaN);
      if (steps.length === 4999) go.resolve();
    }
  };
  await assert.rejects(watching(), { status: "ABORTED", message: "At the end" });
  assert.deepEqual(steps, Array.from({ length: 5000 }, (_, step) => step));
  // 65,536 bytes each, or what was made in a turn of the event loop; the steps themselves are 5,000.
  assert.ok(sent < 1000, `${sent} messages`);
  port1.close();
  port2.close();
});
