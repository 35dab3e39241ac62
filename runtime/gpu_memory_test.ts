import assert from "node:assert/strict";
import { GpuMemory } from "./mod.ts";

/** A program in place of the driver's, that prints lines one after another and then lives on. */
async function withProgram(
  lines: readonly string[],
  body: (program: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const program = `${folder}/nvidia-smi`;
    const said = lines.map((line) => `echo '${line}'`).join("; sleep 0.05; ");
    await Deno.writeTextFile(program, `#!/bin/sh\n${said}; exec sleep 60\n`, { mode: 0o755 });
    await body(program);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const onWindows = Deno.build.os === "windows";

Deno.test("GpuMemory tells the most that was taken since it was opened", {
  ignore: onWindows,
  // The program in place of the driver's is ended, and not waited for.
  sanitizeOps: false,
  sanitizeResources: false,
}, async () => {
  const lines = ["81559, 1000", "81559, 1024", "81559, 5000", "81559, 1100"];
  await withProgram(lines, async (program) => {
    const memory = await GpuMemory.open({ program });
    assert.ok(memory);
    assert.equal(memory.total, 81559 * 2 ** 20);
    while (memory.peak < 4000 * 2 ** 20) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal(memory.peak, 4000 * 2 ** 20);
    memory.close();
    memory.close();
  });
});

Deno.test("GpuMemory is undefined without the driver's program, or where it finds no GPU", {
  ignore: onWindows,
  sanitizeOps: false,
  sanitizeResources: false,
}, async () => {
  assert.equal(await GpuMemory.open({ program: "/no/such/program" }), undefined);
  await withProgram(["No devices were found"], async (program) => {
    assert.equal(await GpuMemory.open({ program }), undefined);
  });
});
