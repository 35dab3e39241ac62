import assert from "node:assert/strict";
import { CsvPeer } from "./_csv_peer.ts";
import { fuzz, fuzzCase } from "./fuzz.ts";
import { fuzzTargets } from "./targets.ts";

Deno.test("What is mutated is read or clearly refused, and its seeds are read", async (t) => {
  const folder = await Deno.makeTempDir();
  await using csv = await CsvPeer.start();
  if (csv === undefined) console.error("Without Python nobody else reads the CSV cases");
  try {
    for (const target of await fuzzTargets(folder, { csv })) {
      await t.step(target.name, async () => {
        for (const seed of target.seeds) await target.read(seed);
        assert.deepEqual(fuzzCase(target, 7), fuzzCase(target, 7));
        const { read, refused, findings } = await fuzz(target, {
          from: 0,
          count: 60,
          boundSeconds: 60,
        });
        assert.deepEqual(findings, []);
        assert.equal(read + refused, 60);
      });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("What was found once is refused", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const targets = await fuzzTargets(folder);
    // A post-processor of tokenizer.json without what it puts around a text.
    for (const [name, seed] of [["tokenizer.json", 346], ["tokenizer.json", 635]] as const) {
      const target = targets.find((one) => one.name === name);
      assert(target);
      const { findings } = await fuzz(target, { from: seed, count: 1, boundSeconds: 60 });
      assert.deepEqual(findings, []);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
