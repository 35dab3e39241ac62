import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { createLogger } from "../../base/mod.ts";
import { RunSchema, ScoreRequestSchema } from "../../proto/mod.ts";
import { MessageSchemas } from "../rpc/mod.ts";
import { bodyLimit, HeldBodies } from "./body_limit.ts";
import { BodyReader } from "./body_reader.ts";
import { Hono } from "hono";
import { HttpError, toHttpError } from "./http_error.ts";
import { readLines } from "./read_lines.ts";
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
    const failure = toHttpError(error, createLogger({ level: "silent" }));
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

Deno.test("A body or a line in a million pieces is refused, and others have their turn", () =>
  served({}, async (server) => {
    const [host = "", port] = server.address.split(":");
    for (
      const [path, type] of [
        ["configs/check", "application/json"],
        ["rewards/clip/evaluate", "application/x-ndjson"],
      ] as const
    ) {
      const head = `POST /v1/${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\n`;
      const socket = connect(Number(port), host);
      const closed = Promise.withResolvers<string>();
      let answer = "";
      socket.on("error", () => {});
      socket.on("data", (data) => answer += data);
      socket.once("close", () => closed.resolve(answer));
      socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      for (let sent = 0; sent < 2 ** 20 && !socket.destroyed; sent += 2 ** 12) {
        if (!socket.write("1\r\nx\r\n".repeat(2 ** 12))) {
          const room = new Promise((resolve) => socket.once("drain", resolve));
          await Promise.race([room, closed.promise]);
        }
        if (answer !== "") socket.destroy();
      }
      assert.match(await closed.promise, /Body comes in pieces of 1 bytes/, path);
    }
    assert.equal(await health(server), 200);
  }));

Deno.test("Lines are counted with other bodies, must come once begun, and are not empty without end", async () => {
  const held = new HeldBodies(3000);
  const read = async (parts: readonly (string | Promise<string>)[]) => {
    const given = parts.values();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = given.next();
        if (done) controller.close();
        else controller.enqueue(new TextEncoder().encode(await value));
      },
    });
    const found: string[] = [];
    try {
      for await (const { text, line } of readLines(body, { maxBytes: 2000, held, silenceMs: 50 })) {
        found.push(`${line}:${text.length}`);
      }
    } catch (error) {
      assert(error instanceof HttpError);
      found.push(`${error.status} ${error.message.slice(0, 24)}`);
    }
    return found.join();
  };
  const late = (text: string, ms = 100) =>
    new Promise<string>((resolve) => setTimeout(() => resolve(text), ms));
  assert.equal(await read(["a\n\nb", "c\nd"]), "1:1,3:2,4:1");
  assert.equal(await read(["x".repeat(2000), "\n"]), "1:2000");
  assert.equal(await read(["x".repeat(2000), "x\n"]), "413 A line is longer than 20");
  assert.equal(await read([late("a\n"), late("b\n")]), "1:1,2:1");
  assert.equal(await read(["a", late("b\n")]), "408 Body stood still for 0.0");
  assert.equal(await read(["\n".repeat(5000)]), "400 Line 1001: More than 100");
  held.take(2000);
  assert.equal(await read(["x".repeat(1500)]), "503 The gateway holds 2000 b");
  held.give(2000);
  assert.equal(held.held, 0);
});

Deno.test("What a fault quotes is cut, and a large text that is no JSON is refused like a small one", async () => {
  const bodies = new BodyReader(new MessageSchemas());
  const read = (text: string) =>
    bodies.read(ScoreRequestSchema, { text, type: "application/json" });
  try {
    for (const length of [1000, 2 ** 14, 2 ** 22]) {
      const name = "x".repeat(length);
      await assert.rejects(read(`{"${name}": 1}`), (error) => {
        assert(error instanceof HttpError);
        const answer = JSON.stringify(error);
        assert(answer.length < 1000, String(answer.length));
        assert.match(answer, /x… is not known here/);
        return true;
      });
      await assert.rejects(read(`["${"\\".repeat(length)}`), {
        code: "INVALID_ARGUMENT",
        message: length > 2 ** 20 ? "Body is not JSON" : /column 2: Body is not JSON, found/,
      });
    }
    await assert.rejects(read("\\".repeat(2 ** 24)), { message: "Body is not JSON" });
  } finally {
    bodies.close();
  }
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

Deno.test("A body that ends the thread is a fault of ours, and fails no other", async () => {
  const bodies = new BodyReader(new MessageSchemas());
  const prompt = "x".repeat(2 ** 15);
  const type = "application/json";
  const read = () =>
    bodies.read(ScoreRequestSchema, { text: JSON.stringify({ prompts: [prompt] }), type });
  try {
    const before = read();
    // No method takes it, which the thread does not expect.
    const lost = bodies.read(RunSchema, { text: JSON.stringify({ id: prompt }), type });
    const others = [read(), read()];
    await assert.rejects(lost, { name: "Error", message: /^The thread that reads bodies ended/ });
    for (const { prompts } of await Promise.all([before, ...others])) {
      assert.deepEqual(prompts, [prompt]);
    }
  } finally {
    bodies.close();
  }
});

Deno.test("A large form is read in the thread too, and faults are the same there", async () => {
  const bodies = new BodyReader(new MessageSchemas());
  const read = async (bytes: Uint8Array<ArrayBuffer>, more: readonly string[] = []) => {
    const form = new FormData();
    form.append("image", new Blob([bytes]), "a.png");
    for (const field of more) form.append(field, "x");
    const sent = new Response(form);
    const type = sent.headers.get("content-type") ?? "";
    const body = await sent.bytes();
    const { images: [image] } = await bodies.form({ bytes: body, type });
    assert.deepEqual(image?.source, { case: "encoded", value: bytes });
    return body.buffer.detached;
  };
  try {
    const large = new Uint8Array(2 ** 20).fill(10);
    assert.equal(await read(new Uint8Array(9)), false);
    assert.equal(await read(large), true, "it was not given to the thread");
    await assert.rejects(read(large, ["images"]), { status: 400, field: "images" });
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
