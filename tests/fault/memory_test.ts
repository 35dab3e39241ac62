import assert from "node:assert/strict";
import { memoryOfFailedLoads, memoryOfSwaps } from "./_memory.ts";
import type { Reading } from "./_reading_log.ts";

/** Readings of a process, each up to 30 MiB above what it holds: what is not collected yet. */
function readings(
  count: number,
  heldMiB: (i: number) => number,
  { life = 0 }: { readonly life?: number } = {},
): Reading[] {
  return Array.from({ length: count }, (_, i) => ({
    ...{ life, answered: 100, inFlight: 1 },
    resident: { server: heldMiB(i) + 15 * (1 + Math.sin(i * i)), worker: 100 },
    ...(i % 10 === 9 && { held: heldMiB(i) }),
  }));
}

Deno.test("Memory held after each ten swaps is compared with the second ten of the same process", () => {
  const flat = readings(100, (i) => i < 10 ? 60 : 100);
  // Begins lower, as after a stop; six swaps more make no ten.
  const later = readings(46, (i) => i < 40 ? 80 : 200, { life: 1 });
  const { text, faults } = memoryOfSwaps([flat, later]);
  assert.deepEqual(faults, []);
  assert.match(
    text,
    /is held 200, 180 MiB at a process's second ten, over 10 tens since 0.0 % to 0.0 %/,
  );
  assert.match(text, /resident memory \d+, \d+ MiB/);

  const grown = readings(100, (i) => i < 90 ? 100 : 111);
  assert.deepEqual(memoryOfSwaps([grown, later]).faults, [
    "Memory that is held was more than 5.0 % above that of the second ten after 1 of 10 tens of swaps",
  ]);
  assert.match(memoryOfSwaps([readings(29, () => 100)]).text, /held not compared/);
});

Deno.test("What is held after failed loads is flat where its line's interval is within 5 %", () => {
  // What is there once, in the first quarter, is no growth.
  const flat = readings(400, (i) => i < 90 ? 60 : 100 + Math.sin(i));
  assert.deepEqual(memoryOfFailedLoads([flat]).faults, []);
  const grown = readings(400, (i) => 100 + i / 40 + Math.sin(i));
  const { faults: [fault, ...more] } = memoryOfFailedLoads([grown]);
  assert.deepEqual(more, []);
  assert.match(fault ?? "", /grown by [78]\.\d MiB over 300 failed loads, expected at most 5\.\d/);
  assert.match(memoryOfFailedLoads([readings(99, (i) => i)]).text, /too few/);
});
