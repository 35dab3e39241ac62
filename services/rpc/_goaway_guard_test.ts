import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import "./_goaway_guard.ts";

for (const code of [http2.constants.NGHTTP2_NO_ERROR, http2.constants.NGHTTP2_INTERNAL_ERROR]) {
  Deno.test(`A session that is told GOAWAY ${code} ends, but not while the frame is handled`, async () => {
    const server = http2.createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    assert(typeof address === "object" && address);
    const client = http2.connect(`http://127.0.0.1:${address.port}`);
    client.on("error", () => {});
    const [session] = await once(server, "session");
    session.on("error", () => {});
    const ended: boolean[] = [];
    session.on(
      "goaway",
      () => queueMicrotask(() => ended.push(session.closed || session.destroyed)),
    );
    await once(client, "connect");
    client.goaway(code);
    await once(session, "close");
    assert.deepEqual(ended, [false]);
    client.destroy();
    server.close();
    await once(server, "close");
  });
}
