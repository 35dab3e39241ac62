import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { createLogger } from "../../base/mod.ts";
import { RunState, type TrainerService } from "../../proto/mod.ts";
import type { Handlers } from "../rpc/mod.ts";
import { eventStream } from "./event_stream.ts";
import { type GatewayServer, serveGateway } from "./serve_gateway.ts";
import { startFakeStack } from "./testing/fake_stack.ts";

/** What a gateway wrote into its log. */
interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly cause?: string;
}

async function served(
  test: (server: GatewayServer, lines: readonly LogLine[]) => Promise<void>,
  handlers: Partial<Handlers<typeof TrainerService>> = {},
): Promise<void> {
  await using stack = await startFakeStack(handlers);
  const { address: trainer, rewards } = stack;
  const lines: LogLine[] = [];
  const log = createLogger({ level: "error", write: (line) => lines.push(JSON.parse(line)) });
  const server = await serveGateway({ trainer, rewards, port: 0, log });
  try {
    await test(server, lines);
  } finally {
    await server.stop({ drainSeconds: 0 });
  }
}

async function open({ address }: GatewayServer, text: string): Promise<Socket> {
  const [host = "", port] = address.split(":");
  const socket = connect(Number(port), host);
  socket.on("error", () => {});
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("connect", () => socket.write(text, () => resolve()));
  await promise;
  return socket;
}

async function metricsOf({ address }: GatewayServer): Promise<string> {
  return await (await fetch(`http://${address}/metrics`)).text();
}

/** Resolves when a line of the metrics is there. */
async function counted(server: GatewayServer, line: RegExp): Promise<void> {
  for (let text = "", tries = 0; !line.test(text); tries++) {
    assert.ok(
      tries < 200,
      `${line} is not in\n${text.match(/^drtune_gateway_.*(?:total|streams).*$/gm)?.join("\n")}`,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    text = await metricsOf(server);
  }
}

Deno.test("HEAD of a stream or a download leaves nothing open behind it", async () => {
  let [watched, exported] = [0, 0];
  const own: Partial<Handlers<typeof TrainerService>> = {
    async *watchRun(_, { signal }) {
      watched++;
      try {
        yield { event: { case: "state", value: { state: RunState.RUNNING } } };
        await new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason))
        );
      } finally {
        watched--;
      }
    },
    async *exportLora() {
      exported++;
      try {
        const file = { name: "a.safetensors", size: 2n ** 32n, sha256: "0f", step: 3 };
        yield { part: { case: "file", value: file } };
        while (true) yield { part: { case: "data", value: new Uint8Array(2 ** 16) } };
      } finally {
        exported--;
      }
    },
  };
  await served(async (server) => {
    const head = async (path: string) => {
      const { status, headers } = await fetch(`http://${server.address}${path}`, {
        method: "HEAD",
      });
      return [status, headers.get("content-type")];
    };
    const stream = [200, "text/event-stream; charset=utf-8"];
    assert.deepEqual(await head("/v1/overview"), stream);
    assert.deepEqual(await head("/v1/runs/live/events"), stream);
    assert.deepEqual(await head("/v1/runs/live/lora"), [200, "application/octet-stream"]);
    assert.deepEqual(await head("/healthz"), [200, "application/json"]);
    assert.deepEqual(await head("/v1/rewards/none"), [404, "application/json"]);
    await counted(server, /^drtune_gateway_streams 0$/m);
    while (watched + exported > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }, own);
});

Deno.test("An upload that is broken off is the caller's doing: 499, and no error in the log", () =>
  served(async (server, lines) => {
    const paths = ["/v1/configs/check", "/v1/rewards/clip/score", "/v1/rewards/clip/evaluate"];
    for (const path of paths) {
      const socket = await open(
        server,
        `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
          'Content-Length: 1000\r\n\r\n{"index',
      );
      // What was sent is being read.
      await new Promise((resolve) => setTimeout(resolve, 100));
      socket.resetAndDestroy();
    }
    for (const path of ["/v1/configs/check", "/v1/rewards/:server/score"]) {
      await counted(server, new RegExp(`route="${path}",status="499"\\} 1$`, "m"));
    }
    await counted(server, /^drtune_gateway_streams 0$/m);
    assert.deepEqual(lines, []);
  }));

Deno.test("A call whose caller leaves is counted, as 499", async () => {
  const asked = Promise.withResolvers<void>();
  const own: Partial<Handlers<typeof TrainerService>> = {
    getRun: (_, { signal }) => {
      asked.resolve();
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    },
  };
  await served(async (server, lines) => {
    const socket = await open(server, "GET /v1/runs/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await asked.promise;
    socket.destroy();
    await counted(
      server,
      /^drtune_gateway_requests_total\{.*route="\/v1\/runs\/:runId",status="499"\} 1$/m,
    );
    assert.deepEqual(lines, []);
  }, own);
});

Deno.test("What a stream's caller is told is logged is in the log, under that id", async () => {
  const lines: string[] = [];
  const log = createLogger({ level: "error", write: (line) => lines.push(line) });
  const events = async function* () {
    yield { event: "message", data: 1 };
    await Promise.resolve();
    throw new TypeError("not for callers");
  };
  const text = await eventStream(events(), { log }).text();
  const [, id = ""] = /"Internal error, logged with id ([\w-]+)"/.exec(text) ?? [];
  assert.doesNotMatch(text, /not for callers/);
  assert.equal(lines.length, 1);
  const { msg, cause } = JSON.parse(lines[0] ?? "");
  assert.equal(msg, `Internal error, logged with id ${id}`);
  assert.match(cause, /TypeError: not for callers/);
});

Deno.test("The overview is ready when the runs have come, however fast the services answer", async () => {
  const listed = Promise.withResolvers<void>();
  const listRuns: Handlers<typeof TrainerService>["listRuns"] = async ({ pageSize }) => {
    // One is asked for to see whether the trainer answers.
    if (pageSize !== 1) await listed.promise;
    return { runs: [{ id: "late", state: RunState.FINISHED }] };
  };
  await served(async ({ address }) => {
    const told: string[] = [];
    const { body } = await fetch(`http://${address}/v1/overview`);
    assert(body);
    for await (const text of body.pipeThrough(new TextDecoderStream())) {
      told.push(...[...text.matchAll(/^event: (.*)$/gm)].map(([, event = ""]) => event));
      if (told.includes("services")) listed.resolve();
      if (told.includes("ready")) break;
    }
    assert.deepEqual(told, ["services", "run", "ready"]);
  }, { listRuns });
});
