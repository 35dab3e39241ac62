import assert from "node:assert/strict";
import { join } from "node:path";
import { LogFile } from "./log_file.ts";

Deno.test("A log is appended to, and begins anew when it is full", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "x.log");
  try {
    for (const line of ["one", "two"]) {
      const log = new LogFile(path, { maxBytes: 10 });
      log.line(line);
      log.close();
    }
    assert.equal(await Deno.readTextFile(path), "one\ntwo\n");
    const log = new LogFile(path, { maxBytes: 10 });
    log.line("three");
    log.close();
    assert.equal(await Deno.readTextFile(path), "three\n");
    assert.equal(await Deno.readTextFile(`${path}.1`), "one\ntwo\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
