import { RewardService } from "../../proto/mod.ts";
import type { GrpcClient, GrpcClientOptions } from "./grpc_client.ts";
import { ReplicaPool } from "./replica_pool.ts";

/**
 * A client of reward servers that do the same, made as `ReplicaPool` is: a call goes to the one that has least to do,
 * and a unary one to another where that fails. A stream stays with one of them, and ends with it.
 */
export function rewardClient(
  endpoint: string,
  options: GrpcClientOptions = {},
): GrpcClient<typeof RewardService> {
  const pool = new ReplicaPool(RewardService, endpoint, {
    ...options,
    // One client is for all rewards of a server, each of which has weights of its own: those are not compared.
    probe: async (client, call) => {
      await client.describe({}, call);
      return undefined;
    },
  });
  return {
    describe: (request, options) =>
      pool.ask((client, call) => client.describe(request, { ...options, ...call }), options),
    score: (request, options) =>
      pool.ask((client, call) => client.score(request, { ...options, ...call }), options),
    scoreAndGradient: (request, options) =>
      pool.ask(
        (client, call) => client.scoreAndGradient(request, { ...options, ...call }),
        options,
      ),
    evaluate: async function* (requests, options) {
      yield* (await pool.leastBusy()).evaluate(requests, options);
    },
    close: () => pool.close(),
  };
}
