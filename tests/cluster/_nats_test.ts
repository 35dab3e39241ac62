import { NATS_SERVER, NatsServer } from "./_nats_server.ts";

/** A test with a NATS server of its own, skipped where there is none. */
export function natsTest(
  name: string,
  work: (nats: NatsServer) => Promise<void>,
  options: Parameters<typeof NatsServer.start>[1] = {},
): void {
  Deno.test({
    name,
    ignore: NATS_SERVER === undefined,
    fn: async () => {
      const folder = await Deno.makeTempDir({ prefix: "drtune-cluster-" });
      const nats = await NatsServer.start(folder, options);
      try {
        await work(nats);
      } finally {
        await nats.kill();
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}
