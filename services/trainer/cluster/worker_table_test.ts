import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { HelloSchema, RunOrdersSchema, WorkerState } from "../../../proto/mod.ts";
import { CONTRACT_VERSION } from "../../cluster/mod.ts";
import { WorkerTable } from "./worker_table.ts";

function setUp() {
  let now = 0;
  const table = new WorkerTable("7-x", () => now);
  const hello = (
    name: string,
    { state = WorkerState.IDLE, reason = "", version = CONTRACT_VERSION, started = 0 } = {},
  ) => {
    const startedAt = { seconds: BigInt(started) };
    return table.hello(
      create(HelloSchema, { version, worker: { name, state, reason, startedAt } }),
    );
  };
  return { table, hello, pass: (ms: number) => now += ms };
}

Deno.test("A worker is told of the run, its epoch and the contract's version", () => {
  const { table, hello } = setUp();
  assert.equal(hello("a").run, undefined);
  table.run = create(RunOrdersSchema, { runId: "books" });
  const { version, epoch, run, aside } = hello("a");
  assert.deepEqual([version, epoch, run?.runId, aside], [CONTRACT_VERSION, "7-x", "books", ""]);
});

Deno.test("A worker that fails three times in a row is set aside with its last fault, others are not", () => {
  const { table, hello } = setUp();
  hello("a");
  hello("b");
  assert.equal(table.failed("a", "out of memory"), false);
  assert.equal(table.failed("a", "out of memory"), false);
  table.done("a");
  for (const expected of [false, false, true]) assert.equal(table.failed("a", "no GPU"), expected);
  const { aside } = hello("a");
  assert.equal(aside, "Failed at 3 jobs in a row, the last time: no GPU");
  assert.equal(hello("b").aside, "");
  assert.deepEqual(
    table.list().map(({ name, state, reason }) => [name, state, reason]),
    [["a", WorkerState.ASIDE, aside], ["b", WorkerState.IDLE, ""]],
  );
  assert.equal(hello("a", { started: 1 }).aside, "", "started again");
});

Deno.test("A worker of another version is set aside by name, and told why", () => {
  const { hello } = setUp();
  assert.equal(
    hello("old", { version: CONTRACT_VERSION + 1 }).aside,
    `Worker old speaks version ${CONTRACT_VERSION + 1} of the cluster's messages, expected ` +
      `${CONTRACT_VERSION}: run the same version of DRTune everywhere`,
  );
});

Deno.test("Without a worker that takes jobs it is said why, for each; those that are silent are forgotten", () => {
  const { table, hello, pass } = setUp();
  assert.equal(table.whyNone(), "No worker has joined");
  hello("a", { state: WorkerState.UNFIT, reason: "Model x has sha256 1, expected 2" });
  hello("b", { state: WorkerState.DRAINING });
  assert.equal(
    table.whyNone(),
    "No worker takes jobs: a is unfit: Model x has sha256 1, expected 2; b is draining",
  );
  hello("c", { state: WorkerState.LOADING });
  assert.equal(table.whyNone(), undefined);
  pass(4_000);
  hello("a");
  pass(4_000);
  assert.deepEqual(table.list().map(({ name }) => name), ["a"]);
});

Deno.test("Whoever says to be thousands of workers is not remembered, nor all that it says", () => {
  const { table, hello, pass } = setUp();
  hello("n".repeat(2 ** 20), { reason: "r".repeat(2 ** 20) });
  const [{ name, reason } = {}] = table.list();
  assert.deepEqual([name?.length, reason?.length], [201, 1001]);
  for (let i = 1; i < 1000; i++) hello(`w${i}`);
  assert.throws(() => hello("one more"), /^InputError: There are 1000 workers, which is all/);
  assert.equal(hello("w1").aside, "");
  pass(60_000);
  assert.equal(hello("one more").aside, "");
  assert.equal(table.list().length, 1);
});
