export { RewardConfigError, RewardInputError, SelfCheckError } from "./errors.ts";
export {
  decodeImage,
  type DecodeImageOptions,
  type ImageSize,
  readImageSize,
} from "./images/decode_image.ts";
export { loadImageTensor } from "./images/load_image_tensor.ts";
export { type ImageBucket, loadReward, type LoadRewardOptions } from "./load_reward.ts";
export { parseRewardConfig } from "./parse_reward_config.ts";
export {
  REWARD_KINDS,
  type RewardConfig,
  type RewardConfigInput,
  type RewardKindName,
} from "./registry.ts";
export type {
  Direction,
  Images,
  Reward,
  RewardInfo,
  RewardResult,
  ScoreOptions,
  SelfCheck,
} from "./reward.ts";
