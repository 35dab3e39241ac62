import assert from "node:assert/strict";
import { loadOften, type LoadOptions, type LoadReport } from "./_load_often.ts";
import { RECORDS } from "./_loaded_server.ts";
import { memoryOfSwaps } from "./_memory.ts";

/** Answers after a swap, after which the new process is like those before. */
const SETTLED = 32;

/**
 * Swaps a reward server's reward while clients keep asking for value and gradient. Throws unless every request is
 * answered by one of both rewards, each of which always gives the same score.
 */
export function swapUnderLoad(options: LoadOptions): Promise<LoadReport> {
  return loadOften(options, {
    what: "swap",
    memoryOf: memoryOfSwaps,
    async turn(server, index) {
      const { reward, replacedDigest } = await server.load(RECORDS[(index + 1) % 2] ?? {});
      assert.notEqual(reward?.digest, replacedDigest);
      await server.answers(SETTLED);
    },
    check(server, swaps) {
      assert.equal(server.scores.size, Math.min(2, 1 + swaps));
    },
  });
}
