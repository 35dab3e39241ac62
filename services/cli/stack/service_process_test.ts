import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

Deno.test({
  name: "A service ends with its parent, also where that is killed",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const parent = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        fileURLToPath(new URL("testing/parent.ts", import.meta.url)),
      ],
      stdout: "piped",
    }).spawn();
    const reader = parent.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const pid = Number((await reader.read()).value);
    assert(alive(pid));
    parent.kill("SIGKILL");
    await parent.status;
    await reader.cancel();
    for (const end = Date.now() + 60_000; alive(pid);) {
      assert(Date.now() < end, "The service is still there after a minute");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
});

function alive(pid: number): boolean {
  try {
    // A zombie, where nobody waits for orphans, has no command line.
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`) !== "";
  } catch {
    return false;
  }
}
