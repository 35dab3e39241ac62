import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { parseUNetConfig, unetGraph, unetModules } from "../../models/diffusers/mod.ts";
import { openWeights } from "../../models/weights/mod.ts";
import { assertClose, readTensors, repositoryPath, runOnce, withEngine } from "../models/mod.ts";

// U-Nets cut down from Stable Diffusion, and others that people share: make_unets.py.

for (const name of ["nested", "koala", "cross_only", "cross_only_by_level", "lists", "no_middle"]) {
  Deno.test(`a U-Net of kind "${name}" predicts what diffusers' does`, () =>
    withEngine(async (engine) => {
      const folder = `tests/published/unets/${name}`;
      const path = repositoryPath(folder);
      const config = parseUNetConfig(
        JSON.parse(await Deno.readTextFile(`${path}/config.json`)),
        `${path}/config.json`,
      );
      const weights = await openWeights(path);
      const { sample, encoder_hidden_states, prediction } = readTensors(
        `${folder}/values.safetensors`,
      );
      assert.ok(sample && encoder_hidden_states && prediction);
      const [batch = 0, , height = 0, width = 0] = sample.shape;
      const [rows = 0, tokens = 0] = encoder_hidden_states.shape;
      const graph = unetGraph({ config, weights }, {
        batch,
        height,
        width,
        tokens,
        contexts: rows / batch,
      });
      const timestep = float32([500], [1]);
      const actual = await runOnce(engine, graph, { sample, timestep, encoder_hidden_states });
      assertClose(actual.prediction, prediction, { tolerance: 1e-5, what: "prediction" });
      // Every module with a weight can be adapted: a graph refuses changes that no layer reads.
      const modules = unetModules({ weights });
      assert.equal(modules.length, weights.names().filter((n) => n.endsWith(".weight")).length);
      const changes = modules.map((layer) => ({ layer, delta: { kind: "difference" } as const }));
      unetGraph({ config, weights }, { batch, height, width, tokens, changes });
    }));
}
