export { descendants, isAlive } from "./_descendants.ts";
export { CONFIG, outcome, startReward, startTrainer, train } from "./_training.ts";
export { Victim } from "./_victim.ts";
