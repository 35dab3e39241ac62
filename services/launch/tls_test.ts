import assert from "node:assert/strict";
import { RewardService } from "../../proto/mod.ts";
import { parseEndpoint } from "../rpc/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import { type ClientTls, grpcClient } from "../rpc/mod.ts";
import { startGrpcServer } from "../rpc/mod.ts";
import { grpcService } from "../rpc/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { readClientTls, readServerTls } from "./read_tls.ts";

const folder = new URL("../rpc/testing/tls/", import.meta.url);
const pem = (name: string) => Deno.readFileSync(new URL(name, folder));
const SERVER = { cert: "server.pem", key: "server.key" };

const service = grpcService(RewardService, {
  describe: ({ reward }) => Promise.resolve({ rewards: [{ name: reward }] }),
  score: () => Promise.resolve({}),
  scoreAndGradient: () => Promise.resolve({}),
  async *evaluate() {},
});

type Client = ClientTls & { readonly host?: string; readonly scheme?: string };

/** What clients get from a server: the name they asked for, or status and message. */
async function ask(
  clients: readonly Client[],
  { server, host = "127.0.0.1" }: {
    /** Files; undefined for a server without TLS. */
    readonly server: { readonly clientCa?: string } | undefined;
    readonly host?: string;
  },
): Promise<string[]> {
  const { address, stop } = await startGrpcServer({
    services: [service],
    host,
    port: 0,
    log: createLogger({ level: "silent" }),
    ...(server && { tls: await readServerTls({ ...SERVER, ...server }, folder.pathname) }),
  });
  const port = address.split(":").at(-1);
  const results: string[] = [];
  for (const { host: name = host, scheme = "grpcs://", ...tls } of clients) {
    const client = grpcClient(RewardService, `${scheme}${name}:${port}`, { tls });
    try {
      const { rewards } = await client.describe({ reward: "mine" }, { timeoutMs: 20_000 });
      results.push(rewards[0]?.name ?? "");
    } catch (error) {
      assert(error instanceof StatusError, String(error));
      results.push(`${error.status}: ${error.message.replace(`:${port}`, "")}`);
    } finally {
      client.close();
    }
  }
  await stop({ drainSeconds: 0 });
  return results;
}

const ca = pem("ca.pem");
const own = (name: string): ClientTls => ({
  ca,
  cert: pem(`${name}.pem`),
  key: pem(`${name}.key`),
});

Deno.test("With TLS a client that knows the authority is served, and others are told why not", async () => {
  const untrusted = "FAILED_PRECONDITION: Cannot connect to grpcs://127.0.0.1: " +
    "no authority that is trusted here signed its certificate";
  assert.deepEqual(
    await ask([{ ca }, { ca, host: "localhost" }, { ca: pem("stranger.pem") }, {}, {
      scheme: "",
    }], { server: {} }),
    [
      "mine",
      "mine",
      untrusted,
      untrusted,
      "UNAVAILABLE: Cannot connect to 127.0.0.1: it ended the connection at once; " +
      "an address with TLS begins with grpcs://",
    ],
  );
  assert.deepEqual(await ask([{ ca }], { server: undefined }), [
    "FAILED_PRECONDITION: Cannot connect to grpcs://127.0.0.1: it does not speak TLS",
  ]);
});

Deno.test({
  name: "A certificate must name the address, also an IP address",
  ignore: Deno.build.os !== "linux",
  fn: async () =>
    assert.match(
      (await ask([{ ca }], { server: {}, host: "127.0.0.2" }))[0] ?? "",
      /^FAILED_PRECONDITION: .*: its certificate is for other names: 127\.0\.0\.1$/,
    ),
});

Deno.test("With mutual TLS a caller must show a certificate of the right authority", async () => {
  const clients = [own("client"), own("stranger"), { ca }, own("client")];
  const where = "Cannot connect to grpcs://127.0.0.1";
  assert.deepEqual(await ask(clients, { server: { clientCa: "ca.pem" } }), [
    "mine",
    `UNAVAILABLE: ${where}: it ended the handshake; it may not accept the certificate shown to it`,
    `FAILED_PRECONDITION: ${where}: it wants a certificate of its callers`,
    "mine",
  ]);
});

Deno.test("TLS files that are missing, or something else, are named", async () => {
  const rejects = (read: Promise<unknown>, message: RegExp) => assert.rejects(read, { message });
  await rejects(
    readServerTls({ ...SERVER, clientCa: "none.pem" }, folder.pathname),
    /^TLS file none\.pem cannot be read: /,
  );
  await rejects(
    readClientTls({ ca: "make_tls.sh" }, folder.pathname),
    /^TLS file make_tls\.sh is not PEM: it has no "-----BEGIN"$/,
  );
  await rejects(
    readClientTls({ cert: "client.pem" }, folder.pathname),
    /^TLS has a certificate and no key: they go together$/,
  );
});

Deno.test("An address is HOST:PORT, with grpcs:// before it for TLS", () => {
  const parsed = (text: string) => {
    const { host, authority, secure } = parseEndpoint(text) ?? {};
    return [host, authority, secure];
  };
  assert.deepEqual(parsed("reward.example.org:443"), [
    "reward.example.org",
    "reward.example.org:443",
    false,
  ]);
  assert.deepEqual(parsed("grpcs://[::1]:50051"), ["::1", "[::1]:50051", true]);
  for (const bad of ["a", "a:0", "a:65536", "http://a:1", "grpcs://a:1/x", "grpcs://:1", "::1:1"]) {
    assert.equal(parseEndpoint(bad), undefined, bad);
    assert.throws(() => grpcClient(RewardService, bad), {
      status: "INVALID_ARGUMENT",
      message: `Address is "${bad}", expected HOST:PORT or grpcs://HOST:PORT`,
    });
  }
});
