export { fakeModel, FakeNetworks } from "./fake_networks.ts";
export { FakeReward } from "./fake_reward.ts";
