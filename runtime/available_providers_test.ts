import assert from "node:assert/strict";
import { availableProviders } from "./available_providers.ts";

Deno.test("the CPU provider works, and each other that does not says why", async () => {
  const [cpu, ...others] = await availableProviders();
  assert.deepEqual(cpu, { provider: "cpu", available: true, details: [] });
  assert.deepEqual(others.map(({ provider }) => provider), ["webgpu", "cuda"]);
  for (const { available, reason } of others) assert.equal(available, reason === undefined);
});
