import assert from "node:assert/strict";
import { connect } from "node:net";
import process from "node:process";
import { createLogger } from "../../base/mod.ts";
import { RewardService } from "../../proto/mod.ts";
import {
  type GrpcServer,
  grpcService,
  type ServerLimits,
  startGrpcServer,
} from "../../services/rpc/mod.ts";
import { gzipSync } from "node:zlib";
import { head, health, RawConnection } from "./_raw_call.ts";

const SCORE = "/drtune.reward.v1.RewardService/Score";
const GRADIENT = "/drtune.reward.v1.RewardService/ScoreAndGradient";
const MIB = 2 ** 20;
const [RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, UNAUTHENTICATED] = ["8", "4", "16"];

/** A server whose gradients are of one size, and connections to it that are closed in the end. */
async function attacked(
  { limits, token, maxMessageBytes }: {
    readonly limits?: Partial<ServerLimits>;
    readonly token?: string;
    readonly maxMessageBytes?: number;
  },
  attack: (
    server: GrpcServer,
    connection: (options?: { readonly window?: number }) => RawConnection,
  ) => Promise<void>,
): Promise<void> {
  const handlers = {
    describe: () => Promise.resolve({}),
    score: () => Promise.resolve({}),
    scoreAndGradient: () => Promise.resolve({ gradients: [{ data: new Uint8Array(MIB) }] }),
    async *evaluate() {},
  };
  const server = await startGrpcServer({
    services: [grpcService(RewardService, handlers, { ...(token !== undefined && { token }) })],
    port: 0,
    log: createLogger({ level: "silent" }),
    ...(limits && { limits }),
    ...(maxMessageBytes !== undefined && { maxMessageBytes }),
  });
  const connections: RawConnection[] = [];
  try {
    await attack(server, (options) => {
      const connection = new RawConnection(server.address, options);
      connections.push(connection);
      return connection;
    });
    assert.equal(await health(server.address), "0");
  } finally {
    for (const connection of connections) connection.close();
    await server.stop({ drainSeconds: 0 });
  }
}

Deno.test("Calls that declare 64 MiB and send 5 bytes take no memory, and health is answered", () =>
  attacked({}, async ({ address }, connection) => {
    const before = process.memoryUsage().arrayBuffers;
    const calls = [connection(), connection()].flatMap((one) =>
      Array.from({ length: 150 }, () => one.call(SCORE, { body: head(64 * MIB) }))
    );
    // Answered by the server after all of those.
    for (let i = 0; i < 3; i++) assert.equal(await health(address), "0");
    const each = (process.memoryUsage().arrayBuffers - before) / calls.length;
    assert.ok(each < 2 ** 18, `${each} bytes for each`);
  }));

Deno.test("A wrong token is refused by the headers, before a body is read, and its sender is stopped", () =>
  attacked({ token: "the right one, long enough" }, async (_server, connection) => {
    for (const headers of [{}, { authorization: "Bearer of the wrong one" }]) {
      const call = connection().call(SCORE, { body: head(64 * MIB), headers });
      const { status, message } = await call.ended;
      assert.equal(status, UNAUTHENTICATED);
      assert.match(message, /^(No|Wrong) token: /);
      if (!call.stream.closed) await new Promise((resolve) => call.stream.once("close", resolve));
      assert.equal(call.stream.rstCode, 0);
    }
  }));

Deno.test("Requests that stand still hold no more than the server's bytes, and small ones pass", () =>
  attacked({
    maxMessageBytes: MIB,
    limits: { maxHeldBytes: 4 * MIB, silenceSeconds: 600 },
  }, async ({ address }, connection) => {
    const body = new Uint8Array(0.9 * MIB);
    body.set(head(MIB));
    const ends = Array.from({ length: 20 }, () => connection().call(SCORE, { body }).ended);
    // What does not fit is refused; a connection for each, so each has as good a claim as the others.
    const refused: string[] = [];
    await new Promise<void>((resolve) => {
      for (const end of ends) {
        void end.then(({ status = "" }) => {
          refused.push(status);
          if (refused.length === 15) resolve();
        });
      }
    });
    assert.deepEqual([...new Set(refused)], [RESOURCE_EXHAUSTED]);
    assert.equal(await health(address), "0");
  }));

Deno.test("Of a connection, large requests wait for their turn, so none is refused", () =>
  attacked({
    maxMessageBytes: MIB,
    limits: { maxHeldBytesPerConnection: 2 * MIB, maxHeldBytes: 4 * MIB },
  }, async (_server, connection) => {
    const body = new Uint8Array(5 + 0.9 * MIB);
    body.set(head(body.length - 5));
    // Not the end of a message of proper bytes, but of one that is complete: that is found out when all have come.
    const one = connection();
    const ends = await Promise.all(
      Array.from({ length: 12 }, () => one.call(SCORE, { body, end: true }).ended),
    );
    assert.deepEqual(ends.map(({ status }) => status), Array(12).fill("3"));
  }));

Deno.test("Answers that nobody takes make way for those that somebody takes", () =>
  attacked({ limits: { maxHeldBytes: 8 * MIB } }, async (_server, connection) => {
    const greedy = connection({ window: 0 });
    const calls = Array.from(
      { length: 40 },
      () => greedy.call(GRADIENT, { body: head(0), end: true }),
    );
    await Promise.race(calls.map(({ ended }) => ended));
    const { status } = await connection().call(GRADIENT, { body: head(0), end: true }).ended;
    assert.equal(status, "0");
  }));

Deno.test("A request and an answer that stand still are ended", () =>
  attacked({ limits: { silenceSeconds: 0.3 } }, async (_server, connection) => {
    const one = connection({ window: 0 });
    const [request, nothing, answer] = await Promise.all([
      one.call(SCORE, { body: head(MIB) }).ended,
      one.call(SCORE).ended,
      one.call(GRADIENT, { body: head(0), end: true }).ended,
    ]);
    assert.deepEqual([request.status, nothing.status], [DEADLINE_EXCEEDED, DEADLINE_EXCEEDED]);
    assert.match(request.message, /^The caller stood still for 0\.3 s/);
    assert.equal(answer.rstCode, 8);
  }));

Deno.test("A server full of idle connections lets a new one in, in place of the idlest", () =>
  attacked({ limits: { maxConnections: 20 } }, async ({ address, port }) => {
    const ended: number[] = [];
    const sockets = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        socket.on("data", () => {});
        socket.once("close", () => ended.push(i));
        await new Promise((resolve) => socket.once("connect", resolve));
        return socket;
      }),
    );
    assert.equal(await health(address), "0");
    while (ended.length < 40) await new Promise((resolve) => setTimeout(resolve, 5));
    for (const socket of sockets) socket.destroy();
  }));

Deno.test("A connection that never speaks is closed", () =>
  attacked({ limits: { handshakeSeconds: 0.2 } }, async ({ port }, connection) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("data", () => {});
    await new Promise((resolve) => socket.once("close", resolve));
    // One that has spoken may wait for its first call.
    const { status } = await connection().call(SCORE, { body: head(0), end: true }).ended;
    assert.equal(status, "0");
  }));

Deno.test("At the limit of calls the connection with the most gives one up", () =>
  attacked({ limits: { maxCalls: 30 } }, async ({ address }, connection) => {
    const many = connection();
    const held = Array.from({ length: 30 }, () => many.call(SCORE, { body: head(9) }));
    assert.equal(await health(address), "0");
    const { status, message } = await Promise.race(held.map(({ ended }) => ended));
    assert.equal(status, RESOURCE_EXHAUSTED);
    assert.match(message, /^The server has 30 calls in progress, which is all it takes$/);
  }));

Deno.test("What a compressed request becomes is counted, and what is not compressed is told so", () =>
  attacked(
    { maxMessageBytes: 4 * MIB, limits: { maxHeldBytes: 3 * MIB } },
    async (_, connection) => {
      const send = async (body: Uint8Array, encoding = "gzip") => {
        const bytes = new Uint8Array(5 + body.length);
        bytes.set(head(body.length));
        bytes.set(body, 5);
        bytes[0] = 1;
        const headers = { "grpc-encoding": encoding };
        return (await connection().call(SCORE, { body: bytes, headers, end: true }).ended).status;
      };
      assert.equal(await send(gzipSync(new Uint8Array())), "0");
      assert.equal(await send(gzipSync(new Uint8Array(3.5 * MIB))), RESOURCE_EXHAUSTED);
      assert.equal(await send(gzipSync(new Uint8Array(5 * MIB))), RESOURCE_EXHAUSTED);
      assert.equal(await send(new Uint8Array(100)), "3");
      assert.equal(await send(new Uint8Array(100), "br"), "12");
    },
  ));
