import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { float32, type Tensor } from "../../autodiff/mod.ts";
import { readFlowPipeline } from "../../models/flow/mod.ts";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { type Engine, openEngine, watchRuns } from "../../runtime/mod.ts";
import { repositoryPath, withEngine } from "../../tests/models/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { FlowModel } from "./mod.ts";

const SIZE = { height: 8, width: 8 };

/** A model whose encoders have engines of their own, and what these did. */
async function watched(kind: string, engine: Engine, { cacheDir, fails = false }: {
  readonly cacheDir?: string;
  readonly fails?: boolean;
}) {
  const folder = repositoryPath(join("tests/golden/flow", kind));
  const seen = { open: 0, opened: 0, ran: new Array<string>() };
  const openEncoders = async (): Promise<Engine> => {
    if (fails) throw new Error("No room for another process");
    seen.opened++;
    seen.open++;
    const own = watchRuns(
      await openEngine({ isolation: "in-process" }),
      (name) => seen.ran.push(name),
    );
    return {
      ...own,
      close: async () => {
        seen.open--;
        await own.close();
      },
    };
  };
  const model = new FlowModel(await readFlowPipeline(folder), engine, {
    lora: { rank: 1, alpha: 1 },
    session: { intraOpNumThreads: 1 },
    text: { maxSequenceLength: 24 },
    encoders: { openEngine: openEncoders, ...(cacheDir !== undefined && { cacheDir }) },
  });
  return { seen, prompts: model.prompts };
}

for (const kind of ["tiny-sd3", "tiny-flux", "tiny-flux2", "tiny-zimage"]) {
  Deno.test(`${kind}: prompts are encoded once, in a process that ends, and found again on disk`, () =>
    withEngine((engine) =>
      withFolder(async (cacheDir) => {
        const texts = ["a red cat", "a house, and books"];
        const first = await watched(kind, engine, { cacheDir });
        const told: number[] = [];
        await first.prompts.prepare(texts, (done) => void told.push(done));
        assert.deepEqual(told, [0, 1, 2]);
        assert.deepEqual([first.seen.opened, first.seen.open], [1, 0]);
        const { length } = first.seen.ran;
        assert.ok(length > 0);
        const expected = await first.prompts.encode(texts, SIZE);
        assert.equal(first.seen.ran.length, length);
        // One that was not prepared opens the encoders again, for as long as it takes.
        await first.prompts.encode(["another"], SIZE);
        assert.deepEqual([first.seen.opened, first.seen.open], [2, 0]);

        const second = await watched(kind, engine, { cacheDir, fails: true });
        assert.deepEqual(await second.prompts.encode(texts, SIZE), expected);
        await assert.rejects(second.prompts.encode(["new"], SIZE), /No room for another process/);
        // Without an engine of their own the same bits come from the model's; without a folder no weights are hashed.
        const pipeline = await readFlowPipeline(
          repositoryPath(join("tests/golden/flow", kind)),
        );
        for (const { part } of pipeline.encoders) {
          part.weights.digest = () => Promise.reject(new Error("Weights are hashed"));
        }
        const plain = new FlowModel(pipeline, engine, {
          lora: { rank: 1, alpha: 1 },
          session: { intraOpNumThreads: 1 },
          text: { maxSequenceLength: 24 },
        });
        assert.deepEqual(await plain.prompts.encode(texts, SIZE), expected);
        await plain.dispose();
      })
    ));
}

Deno.test("embeddings depend on what the encoder reads: another length has others", () =>
  withEngine((engine) =>
    withFolder(async (cacheDir) => {
      const folder = repositoryPath("tests/golden/flow/tiny-flux");
      const pipeline = await readFlowPipeline(folder);
      const shapes: unknown[] = [];
      for (const maxSequenceLength of [16, 24]) {
        const model = new FlowModel(pipeline, engine, {
          lora: { rank: 1, alpha: 1 },
          text: { maxSequenceLength },
          encoders: { cacheDir },
        });
        const { conditional } = await model.prompts.encode(["a red cat"], SIZE);
        shapes.push(conditional.encoder_hidden_states?.shape.slice(0, 2));
        await model.dispose();
      }
      assert.deepEqual(shapes, [[1, 16], [1, 24]]);
    })
  ));

Deno.test("an encoder with other weights in the same place has other embeddings", () =>
  withEngine((engine) =>
    withFolder(async (folder) => {
      const pipeline = join(folder, "pipeline");
      await cp(repositoryPath("tests/golden/flow/tiny-flux"), pipeline, { recursive: true });
      const encode = async () => {
        const model = new FlowModel(await readFlowPipeline(pipeline), engine, {
          lora: { rank: 1, alpha: 1 },
          text: { maxSequenceLength: 16 },
          encoders: { cacheDir: join(folder, "cache") },
        });
        const { conditional } = await model.prompts.encode(["a red cat"], SIZE);
        await model.dispose();
        return conditional.encoder_hidden_states;
      };
      const before = await encode();
      assert.deepEqual(await encode(), before);
      const file = join(pipeline, "text_encoder_2/model.safetensors");
      const weights = openSafetensors(file);
      const changed: Record<string, Tensor> = {};
      for (const name of weights.tensors.keys()) {
        const { data, shape } = await weights.readFloat32(name);
        changed[name] = float32(data.map((value) => 1.5 * value), shape);
      }
      await writeSafetensors(file, changed, Object.fromEntries(weights.metadata));
      assert.notDeepEqual(await encode(), before);
    })
  ));
