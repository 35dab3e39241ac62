import assert from "node:assert/strict";
import { writeOutline } from "../../models/published/mod.ts";
import { readTextToImage } from "../../models/flow/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { prepareRunConfig } from "../run/mod.ts";
import { planRun, type Speed } from "./mod.ts";

const SPEED: Speed = {
  flops: { matrix: 1e9, convolution: 1e9, attention: 1e9, loop: 1e9 },
  plainConvolution: 1e9,
  traffic: 1e9,
  operator: 1e-5,
  loading: 1e-4,
};
/** Weights of one of Qwen3-4B's 36 layers, which 512 tokens pass: projections of 2560 to 32 and 8 heads of 128 and back. */
const QWEN3_LAYER = 2560 * 128 * (32 + 8 + 8) + 32 * 128 * 2560 + 3 * 2560 * 9728;

for (const [name, layers] of [["klein-4b", 27], ["z-image", 35]] as const) {
  Deno.test(`${name} is planned without its weights, its text encoder up to layer ${layers}`, () =>
    withFolder(async (root) => {
      await writeOutline(`${root}/${name}`, name);
      const config = await prepareRunConfig({
        model: name,
        method: { name: "drtune", k: 1, m: 1 },
        sampler: { kind: "flow-euler", steps: 2 },
        lora: { rank: 4 },
        batch: { size: 1 },
        latentHeight: 8,
        latentWidth: 8,
        memoryLimit: 1000,
        prompts: ["a prompt"],
        rewards: [{ name: "reward", endpoint: "reward:1" }],
      }, { root });
      const pipeline = await readTextToImage(`${root}/${name}`);
      const { phases } = planRun(config, { pipeline, speed: SPEED });
      const text = phases.find((phase) => phase.name === "text");
      assert.ok(text !== undefined && text.runs > 0);
      // Two operations a weight and token; attention comes on top.
      const products = text.runs * layers * 2 * QWEN3_LAYER * 512;
      const ratio = text.flops / products;
      assert.ok(ratio > 1 && ratio < 1.05, `${text.flops} of ${products}: ${ratio}`);
    }));
}
