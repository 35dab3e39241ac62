import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { jetstreamManager } from "@nats-io/jetstream";
import { createLogger } from "../../base/mod.ts";
import { HelloSchema, JobSchema, OrdersSchema, WorkerState } from "../../proto/mod.ts";
import { parseRunConfig } from "../../trainer/mod.ts";
import {
  BlobError,
  connectNats,
  CONTRACT_VERSION,
  HELLO_SUBJECT,
  JOB_STREAM,
  JOB_SUBJECTS,
  JobStream,
} from "../../services/cluster/mod.ts";
import { Cluster } from "../../services/trainer/cluster/mod.ts";
import { ClusterWorker } from "../../services/worker/mod.ts";
import type { NatsServer } from "./_nats_server.ts";
import { natsTest } from "./_nats_test.ts";

const log = createLogger({ level: "silent" });
const [RIGHT, WRONG] = ["0123456789abcdef-right", "0123456789abcdef-wrong"];

const connected = (server: NatsServer) =>
  connectNats({ servers: [server.address] }, { name: "test", log });

natsTest("NATS that asks for a token refuses a wrong one, and none, in words", async (nats) => {
  const servers = [nats.address];
  const connect = (token?: string) => connectNats({ servers, token }, { name: "test", log });
  await assert.rejects(connect(WRONG), { message: `NATS at ${nats.address} refuses the token` });
  await assert.rejects(connect(), {
    message: `NATS at ${nats.address} asks for a token or certificate`,
  });
  await (await connect(RIGHT)).close();
}, { configuration: `authorization { token: "${RIGHT}" }` });

const tls = new URL("../../services/rpc/testing/tls/", import.meta.url);
const pem = (name: string) => Deno.readTextFileSync(new URL(name, tls));

natsTest(
  "NATS with mutual TLS takes a certificate of its authority, and nothing else",
  async (nats) => {
    const servers = [nats.address.replace("nats://", "tls://")];
    const connect = (tls: Record<string, string>) =>
      connectNats({ servers, tls }, { name: "test", log });
    const ca = pem("ca.pem");
    await (await connect({ ca, cert: pem("client.pem"), key: pem("client.key") })).close();
    await assert.rejects(connect({ ca }), /^Error: (Cannot connect to )?NATS at tls:/);
    const stranger = { ca, cert: pem("stranger.pem"), key: pem("stranger.key") };
    await assert.rejects(connect(stranger), /^Error: (Cannot connect to )?NATS at tls:/);
    await assert.rejects(
      connect({ ca: pem("stranger.pem") }),
      /^Error: Cannot connect to NATS at tls:/,
    );
  },
  {
    configuration: `tls {\n${
      ["cert_file: server.pem", "key_file: server.key", "ca_file: ca.pem"].map((line) => {
        const [field, file = ""] = line.split(": ");
        return `${field}: ${JSON.stringify(new URL(file, tls).pathname)}`;
      }).join("\n")
    }\nverify: true\n}`,
  },
);

natsTest(
  "A worker whose model has other weights takes no job, and the run is told",
  async (nats) => {
    const cluster = await Cluster.join({
      ...{ nats: { servers: [nats.address] }, epoch: "1-a", silenceMs: 2000, log },
    });
    const worker = new ClusterWorker({
      ...{ name: "w", nats: await connected(nats), log, rewardTls: {}, session: {} },
      ...{ models: "tests/golden", memoryBytes: 2 ** 40 },
      hardware: { name: "cpu: test", memoryBytes: 2 ** 40 },
    });
    const config = parseRunConfig({
      model: "tiny-sd",
      prompts: ["a fox"],
      lora: { rank: 2 },
      latentHeight: 8,
      latentWidth: 8,
      rewards: [{ name: "clip", endpoint: "127.0.0.1:1" }],
    });
    const expected = "0".repeat(64);
    const run = await cluster.begin({
      ...{ id: "run", config, modelDigest: expected, say: () => Promise.resolve() },
    });
    const offered = run.offer({
      ...{ iteration: 1, shards: [{ batch: 0, start: 0, end: 1 }], parameters: {} },
      ...{ reference: undefined, rewards: config.rewards, take: () => {} },
    });
    await assert.rejects(offered.taken(new AbortController().signal), (error) => {
      assert(error instanceof Error);
      assert.match(
        error.message,
        /^No worker takes jobs: w is unfit: Model tiny-sd has sha256 [0-9a-f]{64}, expected 0{64}$/,
      );
      return error.name === "UnavailableError";
    });
    assert.equal(cluster.table.list()[0]?.state, WorkerState.UNFIT);
    await offered.withdraw();
    await run.close();
    await worker.drain();
    await cluster.close();
  },
);

natsTest(
  "A worker and a trainer of different versions refuse each other by both versions",
  async (nats) => {
    const cluster = await Cluster.join({
      ...{ nats: { servers: [nats.address] }, epoch: "1-a", silenceMs: 2000, log },
    });
    const client = await connected(nats);
    const hello = create(HelloSchema, { version: CONTRACT_VERSION + 1, worker: { name: "new" } });
    const answer = await client.request(HELLO_SUBJECT, toBinary(HelloSchema, hello));
    assert.equal(
      fromBinary(OrdersSchema, answer.data).aside,
      `Worker new speaks version ${CONTRACT_VERSION + 1} of the cluster's messages, expected ` +
        `${CONTRACT_VERSION}: run the same version of DRTune everywhere`,
    );
    // Bytes that are no message have no answer, and whoever asks next has one.
    client.publish(HELLO_SUBJECT, new Uint8Array([255, 255, 255]));
    await client.request(HELLO_SUBJECT, toBinary(HelloSchema, hello));
    await cluster.close();

    const said: string[] = [];
    client.subscribe(HELLO_SUBJECT, {
      callback: (_, message) => {
        const orders = create(OrdersSchema, { version: CONTRACT_VERSION + 1, epoch: "2-b" });
        message.respond(toBinary(OrdersSchema, orders));
      },
    });
    const worker = new ClusterWorker({
      ...{ name: "w", nats: await connected(nats), rewardTls: {}, session: {} },
      ...{ models: "tests/golden", memoryBytes: 2 ** 40 },
      hardware: { name: "cpu: test", memoryBytes: 2 ** 40 },
      log: createLogger({ level: "warn", write: (line) => said.push(line) }),
    });
    while (said.length === 0) await new Promise((wait) => setTimeout(wait, 20));
    assert.match(
      said.join(),
      new RegExp(
        `The trainer speaks version ${CONTRACT_VERSION + 1} of .*, expected ${CONTRACT_VERSION}`,
      ),
    );
    await worker.drain();
    await client.close();
  },
);

natsTest(
  "A stream that its operator made smaller is used as it is, and says that it is full",
  async (nats) => {
    const client = await connected(nats);
    const manager = await jetstreamManager(client);
    await manager.streams.add({
      ...{ name: JOB_STREAM, subjects: [JOB_SUBJECTS], retention: "workqueue", discard: "new" },
      max_msgs: 1,
    });
    const jobs = new JobStream(client, { epoch: "1-a", silenceMs: 2000 });
    assert.equal(await jobs.prepare(), true);
    await jobs.publish("1", new Uint8Array([1]));
    await assert.rejects(jobs.publish("2", new Uint8Array([2])), /maximum messages exceeded/);
    assert.equal(await jobs.count(), 1);
    await jobs.clear();
    assert.equal(await jobs.prepare(), false);
    await jobs.publish("2", new Uint8Array([2]));
    await client.close();
  },
);

natsTest("A store without space says so, and keeps what it has", async (nats) => {
  const client = await connected(nats);
  const jobs = new JobStream(client, { epoch: "1-a", silenceMs: 2000 });
  await jobs.prepare();
  const publish = async () => {
    for (let i = 0; i < 100; i++) await jobs.publish(String(i), new Uint8Array(4096));
  };
  await assert.rejects(publish(), /insufficient|resource|storage/i);
  const kept = await jobs.count();
  assert(kept > 0 && kept < 100, String(kept));
  await client.close();
}, { jetstream: "max_file_store: 64KB" });

natsTest(
  "A job that cannot be read is dropped by the worker that gets it, and jobs go on",
  async (nats) => {
    const client = await connected(nats);
    const jobs = new JobStream(client, { epoch: "1-a", silenceMs: 60_000 });
    await jobs.prepare();
    client.subscribe(HELLO_SUBJECT, {
      callback: (_, message) => {
        const run = { runId: "run", config: {}, modelSha256: "" };
        const orders = create(OrdersSchema, { version: CONTRACT_VERSION, epoch: "1-a", run });
        message.respond(toBinary(OrdersSchema, orders));
      },
    });
    const computed = Promise.withResolvers<number>();
    const worker = new ClusterWorker({
      ...{ name: "w", nats: await connected(nats), rewardTls: {}, session: {}, log },
      ...{ models: "tests/golden", memoryBytes: 2 ** 40 },
      hardware: { name: "cpu: test", memoryBytes: 2 ** 40 },
      open: () =>
        Promise.resolve({
          compute: ({ index }) => {
            computed.resolve(index);
            return Promise.reject(new BlobError("gone"));
          },
          close: () => Promise.resolve(),
        }),
    });
    await jobs.publish("garbage", new Uint8Array([255, 255, 255]));
    const job = create(JobSchema, { version: CONTRACT_VERSION, runId: "run", index: 3 });
    await jobs.publish("job", toBinary(JobSchema, job));
    assert.equal(await computed.promise, 3);
    // One that would be given out again is still there.
    assert.equal(await jobs.count(), 1);
    await worker.drain();
    await client.close();
  },
);

natsTest(
  "A worker that cannot read a run's configuration or weights says so, one that waits for NATS does not",
  async (nats) => {
    const client = await connected(nats);
    const unfit = Promise.withResolvers<string>();
    client.subscribe(HELLO_SUBJECT, {
      callback: (_, message) => {
        const { worker } = fromBinary(HelloSchema, message.data);
        if (worker?.state === WorkerState.UNFIT) unfit.resolve(worker.reason);
        const run = { runId: "run", config: {}, modelSha256: "" };
        const orders = create(OrdersSchema, { version: CONTRACT_VERSION, epoch: "1-a", run });
        message.respond(toBinary(OrdersSchema, orders));
      },
    });
    let opened = 0;
    const worker = new ClusterWorker({
      ...{ name: "w", nats: await connected(nats), rewardTls: {}, session: {}, log },
      ...{ models: "tests/golden", memoryBytes: 2 ** 40 },
      hardware: { name: "cpu: test", memoryBytes: 2 ** 40 },
      open: () =>
        Promise.reject(++opened < 3 ? new BlobError("gone") : new Error("EIO: read unet.bin")),
    });
    assert.equal(await unfit.promise, "EIO: read unet.bin");
    assert.equal(opened, 3);
    await worker.drain();
    await client.close();
  },
);
