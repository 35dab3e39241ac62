/** The reward server: `drtune.reward.v1` and the Open Inference Protocol over rewards in processes of their own. */
export { DEFAULT_LIMITS, type Limits } from "./limits.ts";
export {
  type RewardServer,
  type RewardServerConfig,
  rewardServerSchema,
  startRewardServer,
} from "./reward_server.ts";
export { serveReward } from "./serve_reward.ts";
