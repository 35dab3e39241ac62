import assert from "node:assert/strict";
import { Builder } from "../autodiff/mod.ts";
import { compile } from "./compile.ts";
import type { CompileOptions } from "./compiled.ts";
import { CPU_TARGET } from "./target.ts";

Deno.test("convolutions get weights in a layout of their own where that is wanted and constants are folded", () => {
  const b = new Builder();
  const y = b.exp(b.input("x", { dtype: "float32", shape: [1] }));
  const loading = (options: Pick<CompileOptions, "fold" | "blocked">) =>
    compile(b, { y }, { ...CPU_TARGET, ...options }).sessionOptions;
  const extended = { graphOptimizationLevel: "extended" };
  assert.deepEqual(loading({}), { provider: "cpu" });
  assert.deepEqual(loading({ blocked: false }), { provider: "cpu", ...extended });
  for (const blocked of [undefined, true, false]) {
    assert.deepEqual(loading({ fold: false, ...(blocked !== undefined && { blocked }) }), {
      provider: "cpu",
      ...extended,
      foldConstants: false,
    });
  }
});
