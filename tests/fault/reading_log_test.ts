import assert from "node:assert/strict";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { withFolder } from "../support/mod.ts";
import { ReadingLog } from "./_reading_log.ts";

Deno.test("Readings go on after a stop in the middle of a line", async () => {
  await withFolder(async (folder) => {
    const first = await ReadingLog.open(folder);
    await first.add({ answered: 5, inFlight: 1 });
    await first.add({ answered: 6, inFlight: 0, resident: { server: 1, worker: 2 } });
    await appendFile(join(folder, "readings.jsonl"), '{"life":0,"answ');
    const second = await ReadingLog.open(folder);
    assert.equal(second.count, 2);
    await second.add({ answered: 7, inFlight: 0 });
    const { count, life } = await ReadingLog.open(folder);
    assert.deepEqual([count, life], [3, 2]);
    const answered = (await ReadingLog.open(folder)).lives().map((l) => l.map((r) => r.answered));
    assert.deepEqual(answered, [[5, 6], [7]]);
  });
});

Deno.test("What ended a call is told by later ones too", async () => {
  await withFolder(async (folder) => {
    const first = await ReadingLog.open(folder);
    await assert.rejects(
      first.keep(() => Promise.reject(new Error("A request\nfailed"))),
      /failed/,
    );
    assert.deepEqual((await ReadingLog.open(folder)).failures, ["Error: A request failed"]);
  });
});
