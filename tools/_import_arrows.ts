/** A row of the table: what a folder may import besides itself. "*" stands for every folder. */
export type Arrow = readonly string[] | "*";

/**
 * Which top folder may import which. A folder under services/ is a unit of its own, so that services never
 * import one another; what they share lies in services/rpc
 * (servers and clients), services/launch (how a service starts and ends), services/cluster (what a trainer and its workers share) and services/reward_client (the trainer's and
 * the workers' side of rewards). A row of such a folder goes before
 * the row of services.
 */
export const IMPORT_ARROWS: Readonly<Record<string, Arrow>> = {
  base: [],
  autodiff: [],
  proto: [],
  compile: ["autodiff", "base"],
  models: ["compile", "autodiff", "base"],
  runtime: ["compile", "autodiff", "base"],
  rewards: ["models", "runtime", "compile", "autodiff", "base"],
  trainer: ["models", "runtime", "compile", "autodiff", "base"],
  "services/rpc": ["rewards", "proto", "base"],
  "services/launch": ["services/rpc", "base", "proto"],
  "services/reward_client": [
    "services/launch",
    "services/rpc",
    "rewards",
    "trainer",
    "autodiff",
    "proto",
    "base",
  ],
  "services/cluster": ["services/launch", "proto", "base"],
  services: [
    "services/cluster",
    "services/launch",
    "services/reward_client",
    "services/rpc",
    "rewards",
    "trainer",
    "runtime",
    "models",
    "compile",
    "autodiff",
    "proto",
    "base",
  ],
  tests: "*",
  bench: "*",
  tools: "*",
};

/** What a `_test.ts` beside its source may import as well: something to run graphs with, and fixtures. */
export const TESTS_MAY_IMPORT: readonly string[] = ["compile", "runtime", "tests", "tools"];

/** Packages with a single importing folder. */
export const ONLY_IMPORTED_BY: Readonly<Record<string, string>> = { "onnxruntime-node": "runtime" };
