import assert from "node:assert/strict";
import { Builder, float32 } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { WeightScope } from "../weight_scope.ts";
import { sinusoids } from "./_time_embedding.ts";

Deno.test("sinusoids() are sine and cosine of angles of many turns to float32's last bit", async () => {
  const times = [0, 1, 41.5, 701, 999, 4096, -512];
  const b = new Builder();
  const t = b.input("t", { dtype: "float32", shape: [times.length] });
  const noWeights = {
    has: () => false,
    get: () => {
      throw new RangeError("There are no weights");
    },
  };
  const options = { width: 64, flipSinToCos: true, freqShift: 0 };
  const y = sinusoids(new WeightScope(b, noWeights), t, options);
  const engine = await openEngine({ isolation: "in-process" });
  const session = await engine.load({ bytes: serialize(b, { y }) });
  const found = (await session.run({ t: float32(times, [times.length]) })).y;
  assert.equal(found?.dtype, "float32");
  const { data } = found;
  for (const [n, time] of times.entries()) {
    for (let i = 0; i < 32; i++) {
      const exponent = Math.fround(Math.fround(Math.fround(-Math.log(10000)) * i) / 32);
      const angle = Math.fround(time * Math.fround(Math.exp(exponent)));
      const { [64 * n + i]: cos = NaN, [64 * n + 32 + i]: sin = NaN } = data;
      assert.ok(Math.abs(cos - Math.cos(angle)) <= 2e-7, `cos ${angle} is ${cos}`);
      assert.ok(Math.abs(sin - Math.sin(angle)) <= 2e-7, `sin ${angle} is ${sin}`);
    }
  }
  await engine.close();
});
