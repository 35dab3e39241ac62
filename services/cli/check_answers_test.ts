import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { createLogger } from "../../base/mod.ts";
import { Health } from "../../proto/mod.ts";
import { grpcClient, startGrpcServer } from "../rpc/mod.ts";
import { connect } from "node:net";
import { checkAnswers } from "./check_answers.ts";

/** A port that passes bytes on to another one until it is told to be silent, as a suspended process is. */
async function gate(port: number): Promise<{
  readonly address: string;
  silence(): void;
  close(): Promise<void>;
}> {
  const sockets: Socket[] = [];
  let silent = false;
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    if (silent) return;
    const inner = connect(port, "127.0.0.1");
    inner.on("error", () => {});
    sockets.push(inner);
    socket.on("data", (data) => silent || inner.write(data));
    inner.on("data", (data) => silent || socket.write(data));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  assert(typeof address === "object" && address !== null);
  return {
    address: `127.0.0.1:${address.port}`,
    silence: () => silent = true,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

Deno.test("A service that answers nothing is given up on, at the first word and within a stream", async () => {
  const server = await startGrpcServer({
    services: [],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
  const between = await gate(server.port);
  const what = "The trainer";
  try {
    await checkAnswers(between.address, { what, tls: {} });
    // What does not listen is for the command's own call to say.
    await checkAnswers("127.0.0.1:9", { what, tls: {} });

    const client = grpcClient(Health, between.address, {
      keepalive: { seconds: 0.1, timeoutSeconds: 0.1 },
    });
    await assert.rejects(async () => {
      for await (const _ of client.watch({ service: "" })) between.silence();
    }, {
      status: "UNAVAILABLE",
      message: `Cannot connect to ${between.address}: it does not answer`,
    });
    client.close();

    await assert.rejects(checkAnswers(between.address, { what, tls: {}, seconds: 0.2 }), {
      message:
        /^The trainer at \S+ takes connections and has not answered for 0\.2 s: .*"(deno task )?drtune status"/,
    });
  } finally {
    await between.close();
    await server.stop({ drainSeconds: 0 });
  }
});
