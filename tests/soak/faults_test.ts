import assert from "node:assert/strict";
import { faultsOf, type SoakReport } from "./mod.ts";

const flat = { slope: 0, low: -1, high: 1, usual: 100 };
const quiet: SoakReport = {
  rounds: { train: 3 },
  failures: [],
  cpu: 10,
  memory: new Map([["trainer", flat]]),
  handles: new Map([["trainer", { ...flat, usual: 30 }]]),
};

Deno.test("A soak is at fault for failures, and for what may grow by the upper end of its interval", () => {
  assert.deepEqual(faultsOf(quiet), []);
  assert.deepEqual(faultsOf({ ...quiet, failures: ["score: no"] }), ["1 rounds failed"]);
  const memory = new Map([["gateway", { ...flat, high: 5.1 }]]);
  assert.deepEqual(faultsOf({ ...quiet, memory }), [
    "Memory of gateway may grow by 5.1 MiB an hour, expected at most 5.0",
  ]);
  const handles = new Map([["clip", { ...flat, high: 1.1 }]]);
  assert.deepEqual(faultsOf({ ...quiet, handles }), [
    "Handles of clip may grow by 1.1 an hour, expected at most 1",
  ]);
});
