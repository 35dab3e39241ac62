import assert from "node:assert/strict";
import { RewardService } from "../../proto/mod.ts";
import { type ClientTls, grpcClient } from "./grpc_client.ts";
import { startGrpcServer } from "./grpc_server.ts";
import { grpcService } from "./grpc_service.ts";
import { createLogger } from "./log.ts";
import { readServerTls } from "./read_tls.ts";

const folder = new URL("testing/tls/", import.meta.url);
const pem = (name: string) => Deno.readFileSync(new URL(name, folder));
const SERVER = { cert: "server.pem", key: "server.key" };

const service = grpcService(RewardService, {
  describe: ({ reward }) => Promise.resolve({ rewards: [{ name: reward }] }),
  score: () => Promise.resolve({}),
  scoreAndGradient: () => Promise.resolve({}),
  async *evaluate() {},
});

/** What a client with these files gets from a server with those: the name it asked for, or a status. */
async function ask(
  server: { readonly cert: string; readonly key: string; readonly clientCa?: string },
  clients: readonly (ClientTls | undefined)[],
): Promise<string[]> {
  const { address, stop } = await startGrpcServer({
    services: [service],
    port: 0,
    tls: await readServerTls(server, folder.pathname),
    log: createLogger({ level: "silent" }),
  });
  const results: string[] = [];
  for (const tls of clients) {
    // By name, as the certificate has it: Deno sends no address as a server's name.
    const client = grpcClient(
      RewardService,
      address,
      tls ? { tls: { ...tls, serverName: "localhost" } } : {},
    );
    try {
      const { rewards } = await client.describe({ reward: "mine" }, { timeoutMs: 20_000 });
      results.push(rewards[0]?.name ?? "");
    } catch (error) {
      assert(error instanceof Error && "status" in error, String(error));
      results.push(String(error.status));
    } finally {
      client.close();
    }
  }
  await stop({ drainSeconds: 0 });
  return results;
}

const own = (name: string): ClientTls => ({
  ca: pem("ca.pem"),
  cert: pem(`${name}.pem`),
  key: pem(`${name}.key`),
});

Deno.test("With TLS a client that knows the authority is served, and no other", async () => {
  const found = await ask(SERVER, [{ ca: pem("ca.pem") }, { ca: pem("stranger.pem") }, undefined]);
  assert.deepEqual(found, ["mine", "UNAVAILABLE", "UNAVAILABLE"]);
});

Deno.test("With mutual TLS a caller must show a certificate of the right authority", async () => {
  const found = await ask({ ...SERVER, clientCa: "ca.pem" }, [
    own("client"),
    own("stranger"),
    { ca: pem("ca.pem") },
    own("client"),
  ]);
  assert.deepEqual(found, ["mine", "UNAVAILABLE", "UNAVAILABLE", "mine"]);
});

Deno.test("A TLS file that is missing is named", async () => {
  await assert.rejects(
    readServerTls({ ...SERVER, clientCa: "none.pem" }, folder.pathname),
    /^Error: TLS file none\.pem cannot be read: /,
  );
});
