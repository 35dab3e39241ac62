import assert from "node:assert/strict";
import { float32 } from "../autodiff/mod.ts";
import { checkImages } from "./_check_images.ts";
import { selfCheck } from "./_self_check.ts";
import type { Reward } from "./reward.ts";

/** A reward that reads one element of each image and nothing else. */
function elementReward(at: number): Reward {
  return {
    info: {
      name: "element",
      kind: "element",
      direction: "maximise",
      range: [-Infinity, Infinity],
      readsPrompt: false,
      preprocessing: "none",
      fileProcessing: "tensor",
      digest: "",
      provider: "cpu",
    },
    score(images) {
      checkImages(images);
      const gradient = new Float32Array(images.data.length);
      gradient[at] = 1;
      return Promise.resolve({
        scores: Float32Array.of(images.data[at] ?? NaN),
        gradient: float32(gradient, images.shape),
      });
    },
    dispose: () => Promise.resolve(),
  };
}

Deno.test("selfCheck() compares a gradient of one element, wherever that is", async () => {
  const extent = { height: 4, width: 4 };
  for (let at = 0; at < 48; at++) {
    const { gradientNorm, relativeError = NaN } = await selfCheck(elementReward(at), {
      extent,
      isSurrogate: false,
    });
    assert.equal(gradientNorm, 1);
    assert.ok(relativeError < 0.03, `Element ${at}: ${relativeError}`);
  }
});
