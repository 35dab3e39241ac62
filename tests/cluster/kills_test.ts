import { NATS_SERVER } from "./_nats_server.ts";
import { killCluster } from "./kill_cluster.ts";

// `deno task fault --cluster` kills more often.
Deno.test({
  name:
    "A run's LoRA is that of a single process to the bit, whichever workers, trainers and NATS die",
  ignore: NATS_SERVER === undefined,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "drtune-cluster-" });
    try {
      await killCluster({
        ...{ workers: 1, trainers: 1, nats: 1, every: 2, size: 2, seed: 1, folder },
        say: () => {},
      });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
