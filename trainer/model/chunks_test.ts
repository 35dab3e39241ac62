import assert from "node:assert/strict";
import { chunks, chunkSizes } from "./_chunks.ts";

Deno.test("Chunks have two sizes at most, told with how often they occur", () => {
  for (const [count, limit] of [[160, 1], [160, 3], [7, 2], [5, 0.2]] as const) {
    const sizes = chunkSizes(count, limit);
    assert.ok(sizes.length <= 2);
    assert.equal(sizes.reduce((sum, { size, times }) => sum + size * times, 0), count);
    assert.equal(sizes.reduce((sum, { times }) => sum + times, 0), chunks(count, limit).length);
  }
  assert.deepEqual(chunkSizes(160, 1), [{ size: 1, times: 160 }]);
});
