import assert from "node:assert/strict";
import process from "node:process";
import { readProcesses } from "./_processes.ts";

Deno.test("A process is read with its memory, handles and CPU, and those below it", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const child = new Deno.Command("sleep", { args: ["60"] }).spawn();
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
    const { user, system } = process.cpuUsage();
    const { cpu = NaN } = await own() ?? {};
    assert.ok(Math.abs(cpu - (user + system) / 1e6) < 0.1, `${cpu} s of ${user + system} us`);
    const [below] = (await readProcesses(Deno.pid)).filter(({ pid }) => pid === child.pid);
    assert.equal(below?.parent, Deno.pid);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
});
