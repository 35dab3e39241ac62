import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { createLogger } from "../../base/mod.ts";
import { ScoreRequestSchema } from "../../proto/mod.ts";
import { MessageSchemas } from "../rpc/mod.ts";
import { bodyLimit, HeldBodies } from "./body_limit.ts";
import { BodyReader } from "./body_reader.ts";
import { Hono } from "hono";
import { toHttpError } from "./http_error.ts";
import { type GatewayServer, serveGateway } from "./serve_gateway.ts";
import { startFakeStack } from "./testing/fake_stack.ts";

async function served(
  options: Partial<Parameters<typeof serveGateway>[0]>,
  test: (server: GatewayServer) => Promise<void>,
): Promise<void> {
  await using stack = await startFakeStack();
  const { address: trainer, rewards } = stack;
  const server = await serveGateway({
    trainer,
    rewards,
    port: 0,
    log: createLogger({ level: "silent" }),
    ...options,
  });
  try {
    await test(server);
  } finally {
    await server.stop({ drainSeconds: 0 });
  }
}

async function health({ address }: GatewayServer): Promise<number> {
  // A connection of its own.
  const response = await fetch(`http://${address}/healthz`, { headers: { connection: "close" } });
  await response.body?.cancel();
  return response.status;
}

/** Opens a connection that sends this and no more. Resolves with what was answered until it was closed. */
function half({ address }: GatewayServer, text: string): {
  readonly opened: Promise<void>;
  readonly closed: Promise<string>;
} {
  const [host = "", port] = address.split(":");
  const socket = connect(Number(port), host);
  const [opened, closed] = [Promise.withResolvers<void>(), Promise.withResolvers<string>()];
  let answer = "";
  socket.on("error", () => {});
  socket.on("data", (data) => answer += data);
  socket.once("connect", () => socket.write(text, () => opened.resolve()));
  socket.once("close", () => closed.resolve(answer));
  return { opened: opened.promise, closed: closed.promise };
}

const HALF = "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n";

Deno.test("Half requests fill no gateway: the oldest makes way", () =>
  served({ maxConnections: 20 }, async (server) => {
    const halves = Array.from({ length: 60 }, () => half(server, HALF));
    await Promise.all(halves.map(({ opened }) => opened));
    assert.equal(await health(server), 200);
    // All but those there is room for.
    const closed = halves.map(({ closed }) => closed);
    let count = 0;
    await new Promise<void>((resolve) => {
      closed.forEach((one) => void one.then(() => ++count === 40 && resolve()));
    });
  }));

Deno.test("A request whose headers do not come is answered 408 and its connection closed", () =>
  served({ times: { headersMs: 200, idleMs: 1000 } }, async (server) => {
    assert.match(await half(server, HALF).closed, /^HTTP\/1\.1 408 /);
    assert.equal(await health(server), 200);
  }));

Deno.test("A body that stands still, is too large or too much beside others is refused", async () => {
  const held = new HeldBodies(3000);
  const app = new Hono();
  app.onError((error) => {
    const failure = toHttpError(error);
    return Response.json(failure, { status: failure.status });
  });
  app.post("/", bodyLimit({ maxBytes: 2000, held, silenceMs: 50 }), async ({ req }) => {
    const { length } = await req.text();
    return Response.json({ length, held: held.held });
  });
  const post = async (body: BodyInit) => {
    const response = await app.fetch(new Request("http://localhost/", { method: "POST", body }));
    const { error, ...fine } = await response.json();
    return [response.status, error?.message ?? fine];
  };
  const open = Promise.withResolvers<void>();
  const stalling = (bytes: number) =>
    new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(bytes)),
      pull: () => open.promise,
    });
  assert.deepEqual(await post("x".repeat(2000)), [200, { length: 2000, held: 2000 }]);
  assert.deepEqual(await post("x".repeat(2001)), [413, "Body is larger than 2000 bytes"]);
  assert.deepEqual(await post(stalling(2001)), [413, "Body is larger than 2000 bytes"]);
  const still = post(stalling(1500));
  const [status, message] = await post("x".repeat(1800));
  assert.equal(status, 503);
  assert.match(message, /^The gateway holds 1500 bytes of bodies, and 3000 is all it takes/);
  assert.deepEqual((await still)[0], 408);
  assert.equal(held.held, 0);
  open.resolve();
});

Deno.test("A large body is read in a thread of its own, and faults are the same there", async () => {
  const bodies = new BodyReader(new MessageSchemas());
  const read = (value: unknown) =>
    bodies.read(ScoreRequestSchema, {
      text: JSON.stringify(value),
      type: "application/json",
      params: {},
    });
  try {
    const bytes = Buffer.alloc(2 ** 20, 7);
    const encoded = bytes.toString("base64");
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const { images: [image], prompts } = await read({ images: [{ encoded }], prompts: ["a"] });
    clearInterval(timer);
    assert.ok(turns > 0, "nothing else ran meanwhile");
    assert.ok(image?.source.case === "encoded" && bytes.equals(image.source.value));
    assert.deepEqual(prompts, ["a"]);
    await assert.rejects(read({ images: [{ encoded, colour: 1 }] }), {
      status: 400,
      field: "images.0.colour",
      message: "Field images.0.colour is not known here",
    });
    for (const empty of [[], {}]) {
      await assert.rejects(read({ images: Array(2 ** 20).fill(empty) }), {
        code: "INVALID_ARGUMENT",
        message: "Body has more than 2000 lists and objects",
      });
    }
  } finally {
    bodies.close();
  }
});

Deno.test("A form of very many parts is refused before it is parsed", () =>
  served({}, async ({ address }) => {
    const part = '--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na\r\n';
    const response = await fetch(`http://${address}/v1/rewards/clip/score`, {
      method: "POST",
      headers: { "content-type": "multipart/form-data; boundary=x" },
      body: `${part.repeat(2000)}--x--\r\n`,
    });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.message, "Body has more than 1000 parts");
  }));
