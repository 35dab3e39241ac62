import assert from "node:assert/strict";
import { memoryOfFailedLoads, memoryOfSwaps } from "./_memory.ts";
import type { Reading } from "./_reading_log.ts";

/** Readings of a process, each 3 MiB around a value: what is not collected yet. */
function readings(
  count: number,
  serverMiB: (i: number) => number,
  { life = 0 }: { readonly life?: number } = {},
): Reading[] {
  return Array.from({ length: count }, (_, i) => ({
    ...{ life, answered: 100, inFlight: 1 },
    resident: { server: serverMiB(i) + 3 * Math.sin(i * i), worker: 100 },
  }));
}

Deno.test("Memory over each ten swaps is compared with the second ten of the same process", () => {
  const flat = readings(100, (i) => i < 10 ? 60 : 100);
  // Begins lower, as after a stop; six swaps more make no ten.
  const later = readings(46, () => 80, { life: 1 });
  const { text, faults } = memoryOfSwaps([flat, later]);
  assert.deepEqual(faults, []);
  assert.match(text, /second ten swaps 199, 179 MiB, over each of 10 tens since 0.2 % to 2.0 %/);

  const grown = readings(100, (i) => i < 90 ? 100 : 115);
  assert.deepEqual(memoryOfSwaps([grown, later]).faults, [
    "Memory was more than 5.0 % above that of the second ten over 1 of 10 tens of swaps",
  ]);
  assert.match(memoryOfSwaps([readings(29, () => 100)]).text, /too few/);
});

Deno.test("Memory of failed loads is flat where the line's interval is within 5 %", () => {
  // What is there once, in the first quarter, is no growth.
  const flat = readings(400, (i) => i < 90 ? 60 : 100);
  assert.deepEqual(memoryOfFailedLoads([flat]).faults, []);
  const { faults: [fault, ...more] } = memoryOfFailedLoads([readings(400, (i) => 100 + i / 40)]);
  assert.deepEqual(more, []);
  assert.match(
    fault ?? "",
    /grown by (\d|10)\.\d MiB over 300 failed loads, expected at most 5\.\d/,
  );
  assert.match(memoryOfFailedLoads([readings(99, (i) => i)]).text, /too few/);
});
