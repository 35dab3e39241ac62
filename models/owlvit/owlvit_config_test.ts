import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readJsonObject } from "../config.ts";
import { parseOwlVitConfig } from "./owlvit_config.ts";

const PATH = fileURLToPath(
  new URL("../../tests/golden/rewards/owlvit/config.json", import.meta.url),
);

Deno.test("parseOwlVitConfig() reads both towers", async () => {
  const { projectionDim, vision, text } = parseOwlVitConfig(await readJsonObject(PATH), PATH);
  assert.deepEqual([projectionDim, vision.imageSize, vision.patchSize], [32, 48, 8]);
  assert.deepEqual([text.contextLength, text.width, text.eosTokenId], [16, 32, 2]);
});

Deno.test("parseOwlVitConfig() has transformers' defaults: the base model with patches of 32", () => {
  const { vision, text } = parseOwlVitConfig({ model_type: "owlvit" }, "config.json");
  assert.deepEqual([vision.imageSize, vision.patchSize, vision.width], [768, 32, 768]);
  assert.deepEqual([text.contextLength, text.width, text.layers], [16, 512, 12]);
});

Deno.test("parseOwlVitConfig() refuses a joint space that queries do not fit", async () => {
  const config = await readJsonObject(PATH);
  assert.throws(
    () => parseOwlVitConfig({ ...config, projection_dim: 24 }, PATH),
    /"projection_dim" is 24, expected 32/,
  );
});
