/** A reward's process: loads one of the project's rewards by its record, and serves it over stdin and stdout. */
import { loadReward, parseRewardConfig } from "../../rewards/mod.ts";
import { serveReward } from "./serve_reward.ts";

await serveReward((record, settings) => loadReward(parseRewardConfig(record), settings));
