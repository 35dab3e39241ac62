import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { FakeNetworks } from "../testing/fake_networks.ts";
import { pretrainBatch } from "./mod.ts";

const ROWS = [
  {
    caption: "a fox",
    clean: float32([0.3, -1, 0.5, 2], [1, 1, 2, 2]),
    noise: float32([1, 0.2, -0.7, 0.1], [1, 1, 2, 2]),
    level: { timestep: 250, alpha: 0.8, sigma: 0.6, target: { clean: -0.6, noise: 0.8 } },
  },
  {
    caption: "books, many",
    clean: float32([-0.4, 0.6, 1.1, 0], [1, 1, 2, 2]),
    noise: float32([0.5, -1.5, 0.3, 0.9], [1, 1, 2, 2]),
    level: { timestep: 900, alpha: 0.1, sigma: 0.99, target: { clean: 0, noise: 1 } },
  },
];

/** The loss in closed form: o = a x + sin(w_0 e x + w_1 t / 1000), e a tenth of the caption's length. */
function lossOf([a = 0, w0 = 0, w1 = 0]: readonly number[]): number {
  let sum = 0;
  for (const { caption, clean, noise, level: { timestep, alpha, sigma, target } } of ROWS) {
    for (const [i, c] of clean.data.entries()) {
      const n = noise.data[i] ?? NaN;
      const x = alpha * c + sigma * n;
      const o = a * x + Math.sin(w0 * caption.length / 10 * x + w1 * timestep / 1000);
      sum += (o - target.clean * c - target.noise * n) ** 2 / 8;
    }
  }
  return sum;
}

Deno.test("the pretraining loss and its gradient are those in closed form", async () => {
  const networks = new FakeNetworks();
  const { loss, gradients } = await pretrainBatch(networks, { rows: ROWS });
  const values = [0.3, 0.7, -0.4];
  assert.ok(Math.abs(loss - lossOf(values)) < 1e-6, String(loss));
  const found = [...gradients.a?.data ?? [], ...gradients.w?.data ?? []];
  values.forEach((_, j) => {
    const at = (by: number) => lossOf(values.map((v, i) => i === j ? v + by : v));
    const slope = (at(1e-4) - at(-1e-4)) / 2e-4;
    assert.ok(Math.abs((found[j] ?? NaN) - slope) < 1e-6, `${j}: ${found[j]}, not ${slope}`);
  });
  // Without guidance, one row for each picture.
  assert.deepEqual([networks.predicted, networks.differentiated], [[2], [2]]);
});
