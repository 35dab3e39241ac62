import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { healthStatus } from "../rpc/testing/mod.ts";

const program = fileURLToPath(new URL("./testing/fake_main.ts", import.meta.url));

/** Runs the server's program until it ends, or has printed a line and was told to end. */
async function run(args: readonly string[], onReady?: (ready: unknown) => Promise<void>) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", program, ...args],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  let stdout = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += text;
    if (!onReady || !stdout.includes("\n")) continue;
    await onReady(JSON.parse(stdout));
    child.kill("SIGTERM");
  }
  const { code } = await child.status;
  return { code, stdout, stderr: await stderr };
}

Deno.test("The program says when it is ready, and ends with 0 when told to", async () => {
  const { code, stderr } = await run(
    ["--reward", '{"kind": "fake", "scale": 2}', "--port", "0"],
    async (ready) => {
      assert(typeof ready === "object" && ready && "address" in ready && "event" in ready);
      assert.equal(ready.event, "ready");
      const address = String(ready.address);
      assert.match(address, /^127\.0\.0\.1:\d+$/);
      assert.equal(
        await healthStatus(address, "drtune.reward.v1.RewardService/fake"),
        "SERVING",
      );
    },
  );
  assert.equal(code, 0, stderr);
});

Deno.test("A faulty configuration is told by file, line and field", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(
    file,
    "port: 70000\nrewards:\n  - kind: fake\n  - kind: fake\n  - name: x\nlimits:\n  maxSides: 3\n",
  );
  try {
    const { code, stderr } = await run(["--config", file]);
    assert.equal(code, 2);
    assert.deepEqual(stderr.trim().split("\n"), [
      `${file}:1: port is 70000, expected 65535 or less`,
      `${file}:5: rewards.2.kind is missing, expected text`,
      `${file}:7: limits.maxSides is not known here, did you mean maxSide?`,
    ]);
  } finally {
    await Deno.remove(file);
  }
});
