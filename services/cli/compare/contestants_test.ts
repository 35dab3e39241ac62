import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { RunConfigSchema } from "../../../proto/mod.ts";
import { localImages } from "../sample/local_images.ts";
import { drawn } from "./contestants.ts";

const MODEL = fileURLToPath(new URL("../../../tests/golden/tiny-sd", import.meta.url));
const WANTED = [{ prompt: "a fox", seed: 7 }];

/** The one picture, as it would be drawn by words of its own. */
async function picture(options: Partial<Parameters<typeof localImages>[1]>): Promise<Uint8Array> {
  const images = localImages(WANTED, {
    ...{ model: MODEL, loraScale: 1, guidance: 3, threads: 1, onRemark() {} },
    ...{ sampler: { kind: "dpmsolver++", steps: 3 }, signal: new AbortController().signal },
    ...options,
  });
  for await (const { png } of images) return png;
  return assert.fail("No picture");
}

/** Of a picture, what stands behind its note of how it was drawn. */
function pixels(png: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(png);
  return text.slice(text.indexOf("IDAT"));
}

Deno.test("A model is drawn as the run on the other side draws: sampler, noise levels and size", async () => {
  const config = create(RunConfigSchema, {
    sampler: { kind: "dpmsolver++", steps: 3, karrasSigmas: true },
    guidance: { scale: 3 },
    latentHeight: 6,
    latentWidth: 10,
  });
  const side = { kind: "model", name: "tiny", model: MODEL } as const;
  const settings = {
    trainer: () => assert.fail("No run is drawn"),
    ...{ config, steps: 50, onRemark() {}, signal: new AbortController().signal },
  };
  const images = await Array.fromAsync(drawn(side, WANTED, settings));
  assert.equal(images.length, 1);
  const found = pixels(images[0] ?? assert.fail());
  const size = { height: 12, width: 20 };
  const karras = { kind: "dpmsolver++", steps: 3, karrasSigmas: true } as const;
  assert.equal(found, pixels(await picture({ ...size, sampler: karras })));
  assert.notEqual(found, pixels(await picture(size)));
  assert.notEqual(found, pixels(await picture({ sampler: karras })));
});
