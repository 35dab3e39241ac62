import assert from "node:assert/strict";
import { float32 } from "../../../../autodiff/mod.ts";
import { makeSampler, parseConfig, schedulerConfigSchema } from "../../../../trainer/mod.ts";
import { FakeNetworks } from "../../../../trainer/testing/mod.ts";
import { decidedAt } from "./decided_at.ts";
import { drawReplaced, type Replaced } from "./draw_replaced.ts";
import { layoutDistance } from "./layout.ts";

const scheduler = parseConfig(schedulerConfigSchema, { beta_schedule: "scaled_linear" });
const sampler = makeSampler({ kind: "ddpm", steps: 6 }, scheduler);
const latents = { channels: 1, height: 2, width: 2 };
const { signal } = new AbortController();

const draw = async (what: Replaced, from: number, [prompt, otherPrompt] = ["a", "a long one"]) => {
  const request = { prompt: prompt ?? "", otherPrompt: otherPrompt ?? "", seed: 3, otherSeed: 4 };
  const options = { what, from, sampler, guidance: 3, latents, signal };
  return [...(await drawReplaced(new FakeNetworks(), [request], options)).data];
};

Deno.test("a prompt that is replaced from the first step on is the other's picture, from none on its own", async () => {
  const [own, other] = [
    await draw("prompt", 6),
    await draw("prompt", 6, ["a long one", "a"]),
  ];
  assert.deepEqual(await draw("prompt", 0), other);
  assert.notDeepEqual(own, other);
  const between = await Promise.all([1, 2, 3, 4, 5].map((from) => draw("prompt", from)));
  const distinct = new Set([own, other, ...between].map((image) => JSON.stringify(image)));
  assert.equal(distinct.size, 7, "every step reads its own prompt");
});

Deno.test("noise that is replaced: with -1 all of it, with 0 all but the start, with T none", async () => {
  const own = await draw("noise", 6);
  // The last step adds no noise.
  assert.deepEqual(await draw("noise", 5), own);
  const images = await Promise.all([-1, 0, 1, 2, 3, 4].map((from) => draw("noise", from)));
  assert.equal(new Set([own, ...images].map((image) => JSON.stringify(image))).size, 7);
});

Deno.test("the distance of layouts sees where things are, and no detail", () => {
  const image = (value: (x: number, y: number) => number) =>
    float32(Array.from({ length: 256 }, (_, p) => value(p % 16, Math.floor(p / 16))), [
      1,
      1,
      16,
      16,
    ]);
  const flat = image(() => 0.5);
  assert.equal(layoutDistance(flat, image((x, y) => (x + y) % 2)), 0);
  assert.ok(Math.abs(layoutDistance(flat, image((x) => x < 8 ? 0 : 1)) - 0.5) < 1e-12);
  assert.ok(Math.abs(layoutDistance(flat, image((x) => x < 8 ? -3 : 4)) - 0.5) < 1e-12, "clamped");
});

Deno.test("half is decided where the curve crosses one half, between two steps too", () => {
  assert.equal(decidedAt([[0, 1], [2, 0.75], [4, 0.25], [6, 0]]), 3);
  assert.equal(decidedAt([[0, 0.4], [2, 0.1]]), 0);
  assert.equal(decidedAt([[0, 1], [2, 0.9]]), undefined);
});
