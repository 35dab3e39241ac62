import assert from "node:assert/strict";
import { withFolder } from "../support/mod.ts";
import { failedLoads } from "./failed_loads.ts";
import { swapUnderLoad } from "./swap_under_load.ts";

const options = { clients: 16, say: () => {} };

// `deno task fault` does both more often.
Deno.test("Swapping a reward under load fails no request, and goes on where it ended", async () => {
  await withFolder(async (folder) => {
    const { loads } = await swapUnderLoad({ ...options, folder, count: 2 });
    assert.equal(loads, 2);
    const all = await swapUnderLoad({ ...options, folder, count: 3 });
    assert.equal(all.loads, 3);
    assert.ok(all.answered > 0);
  });
});

Deno.test("Loads that fail under load fail no request", async () => {
  await withFolder(async (folder) => {
    const { loads, answered } = await failedLoads({ ...options, folder, count: 4 });
    assert.equal(loads, 4);
    assert.ok(answered > 0);
  });
});
