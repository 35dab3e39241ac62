import assert from "node:assert/strict";
import { mapConcurrently } from "./_map_concurrently.ts";

Deno.test("Inputs that break off while as many as may be are in work end the mapping, and not the process", async () => {
  const broken = new Error("Premature close");
  const { promise: brokenOff, reject: breakOff } = Promise.withResolvers<never>();
  async function* inputs() {
    yield 0;
    yield 1;
    await brokenOff;
  }
  const { promise: worked, resolve: work } = Promise.withResolvers<void>();
  const outputs: number[] = [];
  const mapped = (async () => {
    for await (
      const output of mapConcurrently(inputs(), 2, async (input) => {
        await worked;
        return input;
      })
    ) outputs.push(output);
  })();
  // Both are in work when the inputs break off; a rejection that nobody handles would fail this test.
  await new Promise((resolve) => setTimeout(resolve, 10));
  breakOff(broken);
  await new Promise((resolve) => setTimeout(resolve, 10));
  work();
  await assert.rejects(mapped, broken);
  assert.ok(outputs.length <= 2);
});

Deno.test("A consumer that leaves is not told of work that fails later", async () => {
  const { promise: late, reject: fail } = Promise.withResolvers<number>();
  const { promise: bothInWork, resolve: begin } = Promise.withResolvers<void>();
  async function* inputs() {
    yield 0;
    yield 1;
  }
  const map = async (input: number) => {
    if (input === 1) {
      begin();
      return await late;
    }
    await bothInWork;
    return input;
  };
  for await (const output of mapConcurrently(inputs(), 2, map)) {
    assert.equal(output, 0);
    break;
  }
  fail(new Error("Too late"));
  await new Promise((resolve) => setTimeout(resolve, 10));
});
