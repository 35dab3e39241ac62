import assert from "node:assert/strict";
import { StateFolder } from "./state_folder.ts";

Deno.test("One process has a stack; what a killed one left behind does not count as running", async () => {
  const path = await Deno.makeTempDir();
  try {
    const [mine, other] = [new StateFolder(path), new StateFolder(path)];
    assert.equal(await other.running(), undefined);
    assert.equal(await mine.take(), true);
    assert.equal(await other.take(), false);
    const state = {
      version: 1 as const,
      name: "test",
      file: "/stack.yaml",
      pid: Deno.pid,
      startedAt: new Date().toISOString(),
      services: [],
    };
    await mine.write(state);
    assert.deepEqual(await other.running(), state);
    mine.release();
    assert.equal(await other.running(), undefined);
    assert.equal(await other.take(), true);
    other.release();
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
