export { fakeModel } from "./fake_networks.ts";
export { FakeReward } from "./fake_reward.ts";
