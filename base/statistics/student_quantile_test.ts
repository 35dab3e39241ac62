import assert from "node:assert/strict";
import { studentQuantile } from "./student_quantile.ts";

Deno.test("Student's quantiles are those of the tables", () => {
  // scipy.stats.t.ppf(0.975, freedom)
  const known: readonly (readonly [number, number])[] = [
    [1, 12.706204736174694],
    [2, 4.302652729749462],
    [3, 3.1824463052837078],
    [4, 2.7764451051977934],
    [9, 2.262157162798205],
    [30, 2.0422724563012378],
    [31, 2.039513446396408],
    [100, 1.9839715185235518],
    [1001, 1.9623367052808798],
    [100_000, 1.9599877075346095],
  ];
  for (const [freedom, quantile] of known) {
    assert.ok(
      Math.abs(studentQuantile(freedom) - quantile) < 1e-10,
      `${freedom}: ${studentQuantile(freedom)}`,
    );
  }
});
