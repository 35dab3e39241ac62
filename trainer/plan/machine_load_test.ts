import assert from "node:assert/strict";
import { loadOf } from "./_machine_load.ts";
import { busyRemark } from "./run_plan.ts";

Deno.test("A machine is as loaded as it is now and was for a minute, whichever is less", () => {
  assert.equal(loadOf("5.33 2.29 0.89 15/395 13097\n"), 5.33);
  assert.equal(loadOf("5.33 2.29 0.89 2/395 13097\n"), 1);
  assert.equal(loadOf("0.10 0.20 0.89 9/395 13097\n"), 0.1);
  assert.equal(loadOf(""), undefined);
});

Deno.test("An estimate of a busy machine says so", () => {
  assert.deepEqual(busyRemark({}, 2), {});
  assert.deepEqual(busyRemark({ load: 2 }, 2), {});
  assert.match(
    busyRemark({ load: 7.6 }, 2).remark ?? "",
    /busy .*, 8 threads wanted 2 processors:/,
  );
});
