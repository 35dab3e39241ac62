import assert from "node:assert/strict";
import { swapUnderLoad } from "./swap_under_load.ts";

// `deno task fault` swaps more often.
Deno.test("Swapping a reward under load fails no request", async () => {
  const folder = await Deno.makeTempDir({ prefix: "drtune-fault-" });
  try {
    const { answered } = await swapUnderLoad({ swaps: 3, clients: 16, folder, say: () => {} });
    assert.ok(answered > 0);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
