import { status } from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
  RewardService,
  RunState,
  TrainerService,
} from "../../proto/mod.ts";
import { StatusError } from "./errors.ts";
import { grpcClient, type GrpcClientOptions } from "./grpc_client.ts";
import { type GrpcServer, type GrpcServerOptions, startGrpcServer } from "./grpc_server.ts";
import { grpcService, type Handlers } from "./grpc_service.ts";
import { createLogger } from "../../base/mod.ts";
import { healthStatus, listServices } from "./testing/mod.ts";

type RewardHandlers = Handlers<typeof RewardService>;
const unused = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test"));
const handlers: RewardHandlers = {
  describe: ({ reward }) => Promise.resolve({ rewards: [{ name: reward }] }),
  score: unused,
  scoreAndGradient: unused,
  async *evaluate(requests) {
    for await (const { index } of requests) yield { index };
  },
};

async function withServer(
  own: Partial<RewardHandlers>,
  test: (context: {
    readonly server: GrpcServer;
    readonly log: readonly Record<string, unknown>[];
    readonly client: ReturnType<typeof grpcClient<typeof RewardService>>;
  }) => Promise<void>,
  { server: serverOptions = {}, client: clientOptions = {}, mapError, token }: {
    readonly server?: Partial<GrpcServerOptions>;
    readonly client?: GrpcClientOptions;
    readonly mapError?: (error: unknown) => StatusError | undefined;
    readonly token?: string;
  } = {},
) {
  const log: Record<string, unknown>[] = [];
  const service = grpcService(RewardService, { ...handlers, ...own }, {
    ...(mapError && { mapError }),
    ...(token !== undefined && { token }),
  });
  const server = await startGrpcServer({
    services: [service],
    port: 0,
    log: createLogger({ level: "debug", write: (line) => log.push(JSON.parse(line)) }),
    ...serverOptions,
  });
  const client = grpcClient(RewardService, server.address, clientOptions);
  try {
    await test({ server, log, client });
  } finally {
    client.close();
    await server.stop({ drainSeconds: 0 });
  }
}

function statusOf(expected: keyof typeof status, message: RegExp) {
  return (error: unknown) => {
    assert(error instanceof StatusError, String(error));
    assert.equal(error.status, expected);
    assert.match(error.message, message);
    return true;
  };
}

/** Resolves when the signal aborts, with its reason. */
function abortOf(signal: AbortSignal): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  signal.addEventListener("abort", () => resolve(signal.reason), { once: true });
  return promise;
}

Deno.test("A unary call carries messages, metadata, peer and deadline", () =>
  withServer({
    describe: ({ reward }, { metadata, peer, deadline }) => {
      const seconds = deadline ? Math.round((deadline.getTime() - Date.now()) / 1000) : 0;
      return Promise.resolve({
        rewards: [reward, metadata("x-key") ?? "", peer, `${seconds}`].map((name) => ({ name })),
      });
    },
  }, async ({ client, log }) => {
    const { rewards } = await client.describe({ reward: "é" }, {
      timeoutMs: 60_000,
      metadata: { "x-key": "value" },
    });
    const [reward, key, peer, seconds] = rewards.map(({ name }) => name);
    assert.deepEqual([reward, key, seconds], ["é", "value", "60"]);
    assert.match(peer ?? "", /^127\.0\.0\.1:\d+$/);
    const line = log.at(-1);
    assert.equal(line?.method, "drtune.reward.v1.RewardService/Describe");
    assert.equal(line?.status, "OK");
  }));

Deno.test("Bytes arrive as plain Uint8Arrays, not as Buffers", () =>
  withServer({
    score: ({ images }) => {
      const value = images[0]?.source.value;
      assert(value instanceof Uint8Array);
      return Promise.resolve({ reward: value.constructor.name });
    },
  }, async ({ client }) => {
    const source = { case: "encoded" as const, value: Uint8Array.of(1, 2) };
    assert.equal((await client.score({ images: [{ source }] })).reward, "Uint8Array");
  }));

Deno.test("Large messages are the same both ways, several at a time", async () => {
  const pixels = (seed: number) => Uint8Array.from({ length: 1_500_001 }, (_, i) => i * seed % 251);
  await withServer({
    scoreAndGradient: ({ images: [image] }) => {
      const data = image?.source.case === "encoded" ? image.source.value : new Uint8Array();
      return Promise.resolve({ gradients: [{ data }, { data: data.toReversed() }, {}] });
    },
  }, async ({ client }) => {
    await Promise.all([31, 37, 41].map(async (seed) => {
      const value = pixels(seed);
      const images = [{ source: { case: "encoded" as const, value } }];
      const { gradients: [first, second, third] } = await client.scoreAndGradient({ images });
      assert.ok(Buffer.from(first?.data ?? []).equals(value));
      assert.ok(Buffer.from(second?.data ?? []).equals(value.toReversed()));
      assert.equal(third?.data.length, 0);
    }));
    // A caller that leaves while its answer is on the way takes nothing of the others'.
    const abort = new AbortController();
    const images = [{ source: { case: "encoded" as const, value: pixels(43) } }];
    const left = client.scoreAndGradient({ images }, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error("Enough")), 5);
    await assert.rejects(left, /Enough/);
    await client.describe({});
  });
});

Deno.test("Errors become statuses, and unexpected ones keep their text for the log", async () => {
  class DomainError extends Error {}
  const errors: Record<string, unknown> = {
    status: new StatusError("NOT_FOUND", "No reward of that name"),
    domain: new DomainError("Shape is wrong"),
    secret: new Error("password is hunter2"),
    long: new StatusError("INVALID_ARGUMENT", "x".repeat(1e6)),
  };
  await withServer({
    describe: ({ reward }) => Promise.reject(errors[reward]),
  }, async ({ client, log }) => {
    const call = (reward: string) => client.describe({ reward });
    await assert.rejects(call("status"), statusOf("NOT_FOUND", /^No reward of that name$/));
    await assert.rejects(call("domain"), statusOf("INVALID_ARGUMENT", /^Shape is wrong$/));
    await assert.rejects(call("long"), statusOf("INVALID_ARGUMENT", /^x{2000}…$/));
    await assert.rejects(call("secret"), (error) => {
      assert(error instanceof StatusError);
      assert.equal(error.status, "INTERNAL");
      assert(!error.message.includes("hunter2"));
      const id = error.message.match(/[0-9a-f-]{36}$/)?.[0];
      assert(id);
      const line = log.find((line) => String(line.error).includes(id));
      assert.equal(line?.level, "error");
      assert.match(String(line?.cause), /hunter2/);
      return true;
    });
  }, {
    mapError: (error) =>
      error instanceof DomainError ? new StatusError("INVALID_ARGUMENT", error.message) : undefined,
  });
});

Deno.test("A message that quotes a stranger fits into a header, no character cut in two, and ends no server", async () => {
  // From either beginning a cut at an even or an odd place falls into a character.
  const quoted = ["", "x", "\ud83d"].flatMap((begin) =>
    ["😀", "漢", "x"].map((character) => `${begin}${character.repeat(3000)}`)
  );
  await withServer({
    describe({ reward }) {
      throw new StatusError("NOT_FOUND", `No ${quoted[Number(reward)]}, "${reward}"`);
    },
  }, async ({ client, log }) => {
    for (const [i, text] of quoted.entries()) {
      await assert.rejects(client.describe({ reward: String(i) }), (error) => {
        assert(error instanceof StatusError);
        assert.equal(error.status, "NOT_FOUND", error.message);
        assert(error.message.startsWith(`No ${text.toWellFormed().slice(0, 3)}`), error.message);
        assert(encodeURI(error.message).length <= 6000);
        return true;
      });
    }
    await assert.rejects(client.describe({ reward: "9" }), /No undefined, "9"/);
    assert.equal(log.length, quoted.length + 1);
  });
});

Deno.test("A bidirectional stream answers in step, and more than its buffers hold", () =>
  withServer({}, async ({ client }) => {
    const count = 300;
    const data = new Uint8Array(20_000);
    async function* requests() {
      for (let index = 0; index < count; index++) {
        yield { index, image: { source: { case: "encoded" as const, value: data } } };
      }
    }
    const seen = [];
    for await (const { index } of client.evaluate(requests())) seen.push(index);
    assert.deepEqual(seen, Array.from({ length: count }, (_, i) => i));
  }));

Deno.test("A handler may end a stream before the requests end", () =>
  withServer({
    async *evaluate(requests) {
      for await (const { index } of requests) {
        yield { index };
        if (index === 2) return;
      }
    },
  }, async ({ client }) => {
    let sent = 0;
    async function* requests() {
      while (true) {
        yield { index: sent++ };
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
    const seen = [];
    for await (const { index } of client.evaluate(requests())) seen.push(index);
    assert.deepEqual(seen, [0, 1, 2]);
  }));

Deno.test("An error in the requests ends the stream with that error", () =>
  withServer({}, async ({ client }) => {
    async function* requests() {
      yield { index: 0 };
      await Promise.resolve();
      throw new RangeError("No more images");
    }
    await assert.rejects(async () => {
      for await (const _ of client.evaluate(requests()));
    }, new RangeError("No more images"));
  }));

Deno.test("A handler sees cancellation and deadline, and the caller does not wait for it", async () => {
  const reasons: Promise<unknown>[] = [];
  await withServer({
    describe: (_request, { signal }) => {
      reasons.push(abortOf(signal));
      return new Promise(() => {});
    },
  }, async ({ client }) => {
    await assert.rejects(
      client.describe({}, { timeoutMs: 500 }),
      statusOf("DEADLINE_EXCEEDED", /^Deadline exceeded/),
    );
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("Enough")), 50);
    await assert.rejects(client.describe({}, { signal: controller.signal }), new Error("Enough"));
    const [late, cancelled] = await Promise.all(reasons);
    statusOf("DEADLINE_EXCEEDED", /./)(late);
    statusOf("CANCELLED", /./)(cancelled);
  });
});

Deno.test("A server stream ends with its handler, and leaving it early cancels the handler", async () => {
  const cancelled = Promise.withResolvers<unknown>();
  const missing = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this test"));
  const none = async function* () {};
  const server = await startGrpcServer({
    services: [grpcService(TrainerService, {
      startRun: missing,
      getRun: missing,
      listRuns: missing,
      listWorkers: missing,
      stopRun: missing,
      saveRun: missing,
      resumeRun: missing,
      deleteRun: missing,
      swapReward: missing,
      sample: none,
      evaluateRun: none,
      exportLora: none,
      planRun: missing,
      describeTrainer: missing,
      async *watchRun({ fromStep }, { signal }) {
        void abortOf(signal).then(cancelled.resolve);
        for (let step = fromStep; step < fromStep + 3; step++) {
          yield { event: { case: "step", value: { step, rewards: { a: { mean: 0.5 } } } } };
        }
        if (fromStep === 7) await abortOf(signal);
        yield { event: { case: "state", value: { state: RunState.FINISHED } } };
      },
    })],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
  const client = grpcClient(TrainerService, server.address);
  const steps = [];
  for await (const { event } of client.watchRun({ runId: "r", fromStep: 1 })) {
    steps.push(event.case === "step" ? event.value.step : event.case);
  }
  assert.deepEqual(steps, [1, 2, 3, "state"]);
  for await (const { event } of client.watchRun({ runId: "r", fromStep: 7 })) {
    if (event.case === "step" && event.value.step === 9) break;
  }
  await cancelled.promise;
  client.close();
  await server.stop({ drainSeconds: 0 });
});

Deno.test("Messages over the limit are refused with RESOURCE_EXHAUSTED, and the server stays up", () =>
  withServer({
    scoreAndGradient: () => Promise.resolve({ gradients: [{ data: new Uint8Array(20_000) }] }),
  }, async ({ client }) => {
    for (
      const call of [client.describe({ reward: "x".repeat(20_000) }), client.scoreAndGradient({})]
    ) await assert.rejects(call, statusOf("RESOURCE_EXHAUSTED", /larger/));
    assert.equal((await client.describe({ reward: "y" })).rewards[0]?.name, "y");
  }, { server: { maxMessageBytes: 10_000 } }));

Deno.test("A token is asked for", () =>
  withServer({}, async ({ client, server }) => {
    await assert.rejects(client.describe({}), statusOf("UNAUTHENTICATED", /^Wrong token/));
    const nobody = grpcClient(RewardService, server.address);
    await assert.rejects(nobody.describe({}), statusOf("UNAUTHENTICATED", /^No token/));
    nobody.close();
    const known = grpcClient(RewardService, server.address, { token: "right" });
    await known.describe({});
    known.close();
  }, { token: "right", client: { token: "wrong" } }));

Deno.test("A client tries again while the server is away, within its deadline", async () => {
  let calls = 0;
  await withServer({
    describe: () =>
      ++calls < 3 ? Promise.reject(new StatusError("UNAVAILABLE", "Loading")) : Promise.resolve({}),
  }, async ({ client }) => {
    await client.describe({});
    assert.equal(calls, 3);
  }, { client: { retry: { initialMs: 1 } } });

  const nobody = grpcClient(RewardService, "127.0.0.1:9", { retry: { attempts: 1000 } });
  await assert.rejects(
    nobody.describe({}, { timeoutMs: 300 }),
    statusOf("UNAVAILABLE", /^Cannot connect to 127\.0\.0\.1:9: nothing listens there$/),
  );
  nobody.close();
});

Deno.test("Health and reflection answer standard clients", () =>
  withServer({}, async ({ server }) => {
    const name = "drtune.reward.v1.RewardService";
    assert.equal(await healthStatus(server.address, ""), "SERVING");
    assert.equal(await healthStatus(server.address, name), "SERVING");
    server.setHealth(`${name}/symmetry`, false);
    assert.equal(await healthStatus(server.address, `${name}/symmetry`), "NOT_SERVING");
    for (const version of ["v1", "v1alpha"]) {
      assert.deepEqual(
        await listServices(server.address, version),
        [name, "grpc.health.v1.Health"],
      );
    }
  }));

Deno.test("A health watch follows changes and ends when the server stops", () =>
  withServer({}, async ({ server }) => {
    const client = grpcClient(Health, server.address);
    const seen: string[] = [];
    for await (const { status } of client.watch({ service: "part" })) {
      seen.push(ServingStatus[status]);
      if (seen.length === 1) server.setHealth("part", true);
      if (seen.length === 2) void server.stop({ drainSeconds: 10 });
    }
    assert.deepEqual(seen, ["SERVICE_UNKNOWN", "SERVING", "NOT_SERVING"]);
    client.close();
  }));

Deno.test("Stopping says NOT_SERVING, refuses new calls and lets those in progress end", async () => {
  const begun = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  await withServer({
    async describe() {
      begun.resolve();
      await go.promise;
      return { rewards: [{ name: "done" }] };
    },
  }, async ({ client, server }) => {
    const call = client.describe({});
    await begun.promise;
    const stopped = server.stop({ drainSeconds: 10 });
    const other = grpcClient(RewardService, server.address);
    await assert.rejects(other.describe({}), statusOf("UNAVAILABLE", /./));
    other.close();
    go.resolve();
    assert.equal((await call).rewards[0]?.name, "done");
    await stopped;
  });
});

Deno.test("Stopping answers UNAVAILABLE to what does not end in time", async () => {
  await withServer({
    describe: () => new Promise(() => {}),
  }, async ({ client, server }) => {
    const call = assert.rejects(client.describe({}), statusOf("UNAVAILABLE", /is stopping/));
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server.stop({ drainSeconds: 0.1 });
    await call;
  });
});

Deno.test("A port in use is said so", () =>
  withServer({}, async ({ server }) => {
    await assert.rejects(
      startGrpcServer({ services: [], port: server.port, log: createLogger({ level: "silent" }) }),
      new Error(`Cannot listen on 127.0.0.1:${server.port}: the port is in use`),
    );
  }));
