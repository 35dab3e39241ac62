import assert from "node:assert/strict";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import { fakeModel, FakeNetworks } from "../testing/fake_networks.ts";
import { NumericalError } from "../../runtime/mod.ts";
import { draw, encodePng } from "./mod.ts";

Deno.test("a picture depends on its prompt and seed, not on its batch", async () => {
  const { scheduler, latents } = fakeModel();
  const options = { sampler: { kind: "ddpm", steps: 4 }, scheduler, guidance: 3, latents } as const;
  const requests = [1, 2, 3].map((seed) => ({ prompt: `fox ${seed}`, seed }));
  const images: number[][][] = [];
  for (const batch of [1, 2, 8]) {
    const all: number[] = [];
    for await (const { images } of draw(new FakeNetworks(), requests, { ...options, batch })) {
      all.push(...images.data);
    }
    images.push([all]);
  }
  assert.equal(images[0]?.[0]?.length, 3 * 12);
  assert.deepEqual(images[0], images[1]);
  assert.deepEqual(images[0], images[2]);
});

Deno.test("a picture that is not finite is no black one: drawing it fails", async () => {
  const { scheduler, latents } = fakeModel();
  const options = { sampler: { kind: "ddpm", steps: 4 }, scheduler, guidance: 3, latents } as const;
  const networks = new FakeNetworks();
  networks.parameters = { ...networks.parameters, a: float32([NaN]) };
  const drawn = draw(networks, [{ prompt: "fox", seed: 1 }], options);
  await assert.rejects(drawn.next(), (error) => {
    assert.ok(error instanceof NumericalError);
    assert.match(error.message, /^Tensor 'image' holds NaN at/);
    return true;
  });
});

Deno.test("a PNG holds the pixels, clamped and rounded", async () => {
  const values = [-1, 0, 0.51, 1, 2, 0.11, 0.21, 0.31, 0.41, 0.61, 0.71, 0.81];
  const png = await encodePng(float32([...values, ...values.toReversed()], [2, 3, 2, 2]), 1);
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height, info.channels], [2, 2, 3]);
  const expected = [0, 1, 2, 3].flatMap((p) =>
    [0, 1, 2].map((c) =>
      Math.round(255 * Math.min(1, Math.max(0, values.toReversed()[4 * c + p] ?? NaN)))
    )
  );
  assert.deepEqual([...data], expected);
  await assert.rejects(encodePng(float32(values, [1, 3, 2, 2]), 1), /No image 1/);
});
