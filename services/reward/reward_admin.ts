import { RewardAdmin, RewardState } from "../../proto/mod.ts";
import { type GrpcService, grpcService } from "../rpc/mod.ts";
import type { Limits } from "./limits.ts";
import type { RewardAdminHost } from "./reward_host.ts";
import { description } from "./reward_service.ts";

const STATES = {
  loading: RewardState.LOADING,
  ready: RewardState.READY,
  restarting: RewardState.RESTARTING,
} as const;

/** `drtune.reward.v1.RewardAdmin` over a host; callers must show the token. */
export function rewardAdmin(
  host: RewardAdminHost,
  { limits, token }: { readonly limits: Limits; readonly token: string },
): GrpcService {
  return grpcService(RewardAdmin, {
    async loadReward({ name, config }) {
      const replaced = await host.load(name, config);
      return {
        reward: description(host.get(name), limits),
        replacedDigest: replaced?.digest ?? "",
      };
    },

    async unloadReward({ name }) {
      await host.unload(name);
      return {};
    },

    listRewards() {
      const rewards = host.list().map(({ name, state, reward, queuedImages, restarts }) => ({
        name,
        state: STATES[state],
        ...(reward && { description: description(reward, limits) }),
        queuedImages,
        restarts,
      }));
      return Promise.resolve({ rewards });
    },
  }, { token });
}
