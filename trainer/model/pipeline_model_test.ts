import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { randomStream } from "../random.ts";
import { mapParameters } from "../tensors.ts";
import { chunks } from "./_chunks.ts";
import { PipelineModel } from "./mod.ts";

Deno.test("chunks are as few and as even as can be", () => {
  assert.deepEqual(chunks(5, 2), [[0, 1], [1, 3], [3, 5]]);
  assert.deepEqual(chunks(6, 8), [[0, 6]]);
  assert.deepEqual(chunks(2, 0.3), [[0, 1], [1, 2]]);
  assert.deepEqual(chunks(0, 4), []);
});

Deno.test("LoRA weights act in proportion to their scale, and few sessions serve all sizes", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
    const pipeline = await readPipeline(folder);
    const model = new PipelineModel(pipeline, engine, {
      lora: { rank: 2, alpha: 2 },
      session: { intraOpNumThreads: 1 },
      limits: { sessions: 2, forward: 64 },
    });
    const fresh = model.initialParameters(1);
    const random = randomStream(1, "noise");
    const tuned = mapParameters(fresh, (p) => float32(random.normals(p.data.length), p.shape));
    const size = { height: 8, width: 8 };
    const { conditional } = await model.prompts.encode(["a red cat", "books"], size);
    const x = float32(random.normals(2 * 4 * 64), [2, 4, 8, 8]);
    const rows = { x, timesteps: [7, 500], conditioning: conditional };
    const predicted = async (parameters: typeof tuned, scale: number) => {
      const denoiser = await model.adapt(parameters, { scale });
      const { data } = await denoiser.predict(rows);
      await denoiser.release();
      return [...data];
    };
    const frozen = await predicted(fresh, 1);
    assert.deepEqual(await predicted(tuned, 0), frozen);
    const scaledB = Object.fromEntries(
      Object.entries(tuned).map(([name, t]) => [
        name,
        name.includes("lora_B") ? float32(t.data.map((v) => v * 0.5), t.shape) : t,
      ]),
    );
    const half = await predicted(tuned, 0.5);
    assert.deepEqual(half, await predicted(scaledB, 1));
    assert.notDeepEqual(half, frozen);

    const denoiser = await model.adapt(tuned);
    const tunedOut = [...(await denoiser.predict(rows)).data];
    await denoiser.update(fresh);
    assert.deepEqual([...(await denoiser.predict(rows)).data], frozen);
    assert.notDeepEqual(tunedOut, frozen);
    // Decoding takes other sessions, which push the first ones out.
    await model.decoder.vjp(x, await model.decoder.decode(x));
    assert.deepEqual([...(await denoiser.predict(rows)).data], frozen);
    assert.match(await model.digest(), /^[0-9a-f]{64}$/);
    await model.dispose();
  } finally {
    await engine.close();
  }
});
