import assert from "node:assert/strict";
import {
  assertClose,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
} from "../../tests/models/mod.ts";
import { openWeights } from "../weights/mod.ts";
import { parseVaeConfig } from "./vae_config.ts";
import { encodeGraph, hasEncoder } from "./vae_encoder.ts";

const values = readTensors("models/testdata/vae_encoder.safetensors");

for (const name of ["pipeline", "flow_pipeline"]) {
  Deno.test(`the latents of an image are diffusers': ${name}`, () =>
    withEngine(async (engine) => {
      const path = repositoryPath(`zoo/${name}/vae`);
      const json = JSON.parse(await Deno.readTextFile(`${path}/config.json`));
      const part = { config: parseVaeConfig(json, path), weights: await openWeights(path) };
      assert.ok(hasEncoder(part));
      const [image, moments] = [values[`${name}.image`], values[`${name}.moments`]];
      assert.ok(image && moments);
      const [batch = 0, , height = 0, width = 0] = moments.shape;
      const graph = encodeGraph(part, { batch, height, width });
      const found = await runOnce(engine, graph, { image });
      assertClose(found.moments, moments, { tolerance: 1e-5, what: "moments" });
    }));
}
