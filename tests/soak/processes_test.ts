import assert from "node:assert/strict";
import { readProcesses } from "./_processes.ts";

Deno.test("A process is read with its memory, handles and CPU, and those below it", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const child = new Deno.Command("sh", { args: ["-c", "while :; do :; done"] }).spawn();
  try {
    const own = async () => (await readProcesses(Deno.pid)).find(({ pid }) => pid === Deno.pid);
    const before = await own() ?? assert.fail("It is not there");
    assert.ok(Math.abs(before.resident * 2 ** 20 / Deno.memoryUsage().rss - 1) < 0.1);
    const files = await Promise.all(
      Array.from({ length: 20 }, () => Deno.open(new URL(import.meta.url))),
    );
    const opened = await own() ?? assert.fail("It is not there");
    assert.ok(opened.handles >= before.handles + 15, `${before.handles}, ${opened.handles}`);
    for (const file of files) file.close();
    const below = async () => (await readProcesses(Deno.pid)).find(({ pid }) => pid === child.pid);
    const [begun, first] = [performance.now(), await below() ?? assert.fail("It is not there")];
    assert.equal(first.parent, Deno.pid);
    // Only who listens to it survives the signal.
    assert.ok(!first.hearsUsr2);
    const listener = () => {};
    Deno.addSignalListener("SIGUSR2", listener);
    try {
      assert.ok((await own())?.hearsUsr2);
    } finally {
      Deno.removeSignalListener("SIGUSR2", listener);
    }
    // It never waits: it takes what the machine gives it, more than nothing and at most the time that passes.
    let used = 0;
    while (used < 0.1) used = (await below() ?? assert.fail("It is not there")).cpu - first.cpu;
    const passed = (performance.now() - begun) / 1000;
    assert.ok(used <= passed + 0.05, `${used} s of CPU in ${passed} s`);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
});
