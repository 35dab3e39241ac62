import assert from "node:assert/strict";
import {
  assertClose,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
} from "../../tests/models/mod.ts";
import { openWeights } from "../weights/mod.ts";
import { decodeGraph, decodeVjpGraph, imageSize } from "./graphs.ts";
import { parseVaeConfig } from "./vae_config.ts";

const CASES = {
  vae_old_names: "tests/golden/models/vae_old_names",
  vae_no_attention: "tests/golden/models/vae_no_attention",
  vae_zoo: "zoo/pipeline/vae",
};

for (const [name, folder] of Object.entries(CASES)) {
  Deno.test(`${name}: image and gradient are PyTorch's`, () =>
    withEngine(async (engine) => {
      const path = repositoryPath(folder);
      const json = JSON.parse(await Deno.readTextFile(`${path}/config.json`));
      const config = parseVaeConfig(json, path);
      const part = { config, weights: await openWeights(path) };
      const values = readTensors(`tests/golden/models/${name}/values.safetensors`);
      const { latents, cotangent } = values;
      const [image, gradient] = [values["expected.image"], values["expected.grad.latents"]];
      assert.ok(latents && cotangent && image && gradient);
      const [batch = 0, , height = 0, width = 0] = latents.shape;
      const size = { batch, height, width };
      const pixels = imageSize(config, size);
      assert.deepEqual(image.shape.slice(2), [pixels.height, pixels.width]);

      const forward = await runOnce(engine, decodeGraph(part, size), { latents });
      assertClose(forward.image, image, { tolerance: 1e-5, what: "image" });
      for (const normalizationMemory of [Infinity, 0]) {
        const graph = decodeVjpGraph(part, { ...size, policy: { normalizationMemory } });
        const vjp = await runOnce(engine, graph, { latents, cotangent });
        assertClose(vjp.image, image, { tolerance: 1e-5, what: "image beside the gradient" });
        assertClose(vjp["grad.latents"], gradient, { tolerance: 3e-5, what: "gradient" });
      }
    }));
}
