import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { choosePorts } from "./choose_ports.ts";
import { localPlace } from "./local_place.ts";
import { readStack } from "./read_stack.ts";
import { serviceDefinitions } from "./service_definition.ts";

const PROBE = fileURLToPath(new URL("testing/probe.ts", import.meta.url));

Deno.test("A service reads, writes, calls and starts nothing but what its stack gives it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "stack.yaml");
    const outside = join(folder, "secret");
    const inside = join(folder, "runs", "inside");
    await Deno.mkdir(join(folder, "runs"));
    for (const path of [outside, inside]) await Deno.writeTextFile(path, "secret");
    await Deno.writeTextFile(
      file,
      "models: runs\nrewards: [{ name: a, port: 0, records: [{ kind: symmetry }] }]\n" +
        "trainer: { port: 0 }\ngateway: { port: 0 }\n",
    );
    const stack = choosePorts(await readStack(file));
    await Promise.all(
      serviceDefinitions(stack, localPlace(stack)).map(async (definition) => {
        const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
          args: [
            "run",
            "--no-prompt",
            "--no-check",
            ...definition.permissions,
            PROBE,
            outside,
            inside,
          ],
        }).output();
        const said = new TextDecoder().decode(stdout).trim().split("\n");
        // Callers say where a trainer's rewards are: nothing listens there, but it may ask.
        const connects = definition.kind === "trainer" ? "Error ECONNREFUSED" : "NotCapable";
        assert.deepEqual(
          said.map((line) => line.replace(/NotCapable.*|Error EPERM/, "NotCapable")),
          [
            "read inside: done",
            ...["read", "write", "run", "env"].map((what) => `${what}: NotCapable`),
            `connect: ${connects}`,
            "ffi: NotCapable",
          ],
          `${definition.name}: ${new TextDecoder().decode(stderr)}`,
        );
      }),
    );
    assert.equal(await Deno.readTextFile(outside), "secret");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
