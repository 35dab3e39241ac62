/** A row of the table: what a folder may import besides itself. "*" stands for every folder. */
export type Arrow = readonly string[] | "*";

/**
 * Which top folder may import which. A folder under services/ is a unit of its own, so that services never
 * import one another; what they share lies in services/common.
 */
export const IMPORT_ARROWS: Readonly<Record<string, Arrow>> = {
  autodiff: [],
  proto: [],
  models: ["autodiff"],
  runtime: ["autodiff"],
  rewards: ["models", "runtime", "autodiff"],
  trainer: ["models", "runtime", "autodiff"],
  services: ["services/common", "rewards", "trainer", "runtime", "models", "autodiff", "proto"],
  tests: "*",
  bench: "*",
  tools: "*",
};

/** What a `_test.ts` beside its source may import as well: something to run graphs with, and fixtures. */
export const TESTS_MAY_IMPORT: readonly string[] = ["runtime", "tests", "tools"];

/** Packages with a single importing folder. */
export const ONLY_IMPORTED_BY: Readonly<Record<string, string>> = { "onnxruntime-node": "runtime" };
