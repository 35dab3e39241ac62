import assert from "node:assert/strict";
import { Builder, float32 } from "../autodiff/mod.ts";
import { serialize } from "../compile/mod.ts";
import { openEngine, watchRuns } from "./mod.ts";

Deno.test("a watched engine says what it runs, and runs it", async () => {
  const names: string[] = [];
  const engine = watchRuns(
    await openEngine({ isolation: "in-process" }),
    (name) => names.push(name),
  );
  try {
    const b = new Builder();
    const x = b.input("x", { dtype: "float32", shape: [2] });
    const session = await engine.load({ bytes: serialize(b, { y: b.add(x, 1) }), name: "sum" });
    assert.deepEqual(names, []);
    const ones = engine.place("ones");
    await engine.keep(ones, float32([1, 1]));
    const { y } = await session.run({ x: ones });
    assert.deepEqual([...y?.data ?? []], [2, 2]);
    assert.deepEqual(names, ["sum"]);
  } finally {
    await engine.close();
  }
});
