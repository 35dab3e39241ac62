export { descendants, isAlive } from "./_descendants.ts";
export { CONFIG, outcome, startReward, startTrainer, train, trainerOptions } from "./_training.ts";
export { Victim } from "./_victim.ts";
