import assert from "node:assert/strict";
import { join } from "node:path";
import { float32, sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { repositoryPath } from "../../tests/models/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import {
  initialLora,
  loadLora,
  type LoraFile,
  loraShapes,
  toDiffusersLora,
  toKohyaLora,
  toPeftLora,
  trainableLora,
} from "../lora/mod.ts";
import { writeSafetensors } from "../weights/mod.ts";
import { loraPartsOf, readFlowPipeline } from "./mod.ts";

const pipelineOf = (name: string) =>
  readFlowPipeline(repositoryPath(`tests/golden/flow/tiny-${name}`));

/** An adapter of the family's own targets whose tensors are all different. */
async function adapterOf(name: string) {
  const { transformer } = await pipelineOf(name);
  const config = { rank: 2, alpha: 3, targets: [...transformer.targets] };
  const shapes = loraShapes(transformer.layers, config);
  const tensors = Object.fromEntries(
    Object.entries(initialLora(shapes, 1)).map(([key, t], k) => [
      key,
      float32(t.data.map((_, i) => Math.sin(1 + i + 31 * k)), t.shape),
    ]),
  );
  return { ...config, tensors };
}

const writers: Readonly<
  Record<string, (lora: Awaited<ReturnType<typeof adapterOf>>) => LoraFile>
> = { diffusers: toDiffusersLora, PEFT: toPeftLora, kohya: toKohyaLora };

for (const family of ["sd3", "flux", "flux2", "zimage"]) {
  for (const [form, write] of Object.entries(writers)) {
    Deno.test(`${family}: what is written in ${form}'s names is read back`, () =>
      withFolder(async (folder) => {
        const lora = await adapterOf(family);
        const { tensors, metadata } = write(lora);
        const path = join(folder, "lora.safetensors");
        // PEFT keeps the scale beside the file.
        await writeSafetensors(path, tensors, form === "PEFT" ? {} : metadata);
        const pipeline = await pipelineOf(family);
        const { adapters } = await loadLora(path, loraPartsOf(pipeline));
        const { layers } = pipeline.transformer;
        const read = trainableLora(adapters, { layers, path });
        assert.equal(read.alpha, form === "PEFT" ? 2 : 3);
        assert.deepEqual(read.tensors, lora.tensors);
        const [first = ""] = Object.keys(tensors);
        const prefix = { diffusers: /^transformer\./, PEFT: /^base_model\.model\./ }[form];
        assert.match(first, prefix ?? /^lora_transformer_/);
      }));
  }
}

/** Names that other trainers and ComfyUI give fused layers: [name, [out, in], modules whose rows it holds, in order]. */
const FUSED: Readonly<
  Record<string, { module: string; shape: [number, number]; of: readonly string[] }>
> = {
  sd3: {
    module: "diffusion_model.joint_blocks.1.context_block.attn.qkv",
    shape: [96, 32],
    of: ["add_q_proj", "add_k_proj", "add_v_proj"].map((n) => `transformer_blocks.1.attn.${n}`),
  },
  flux: {
    module: "lora_unet_single_blocks_1_linear1",
    shape: [224, 32],
    of: ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"].map((n) =>
      `single_transformer_blocks.1.${n}`
    ),
  },
  flux2: {
    module: "diffusion_model.double_blocks.0.img_attn.qkv",
    shape: [96, 32],
    of: ["to_q", "to_k", "to_v"].map((n) => `transformer_blocks.0.attn.${n}`),
  },
  zimage: {
    module: "diffusion_model.layers.0.attention.qkv",
    shape: [96, 32],
    of: ["to_q", "to_k", "to_v"].map((n) => `layers.0.attention.${n}`),
  },
};

for (const [family, { module, shape: [out, width], of }] of Object.entries(FUSED)) {
  Deno.test(`${family}: a fused layer's adapter is that of each of its parts`, () =>
    withFolder(async (folder) => {
      const down = wave([2, width]);
      const up = wave([out, 2]);
      const path = join(folder, "lora.safetensors");
      const tensors: Record<string, Tensor> = {
        [`${module}.lora_down.weight`]: down,
        [`${module}.lora_up.weight`]: up,
        [`${module}.alpha`]: float32([1], []),
      };
      await writeSafetensors(path, tensors);
      const pipeline = await pipelineOf(family);
      const { adapters } = await loadLora(path, loraPartsOf(pipeline));
      const { layers } = pipeline.transformer;
      const { tensors: read, alpha } = trainableLora(adapters, { layers, path });
      assert.equal(alpha, 1);
      let row = 0;
      for (const name of of) {
        const rows = layers.find((layer) => layer.name === name)?.shape[0] ?? 0;
        assert.ok(rows > 0, name);
        assert.deepEqual(read[`${name}.lora_A.weight`], down, name);
        const part = up.data.slice(2 * row, 2 * (row + rows));
        assert.deepEqual(read[`${name}.lora_B.weight`], float32(part, [rows, 2]), name);
        row += rows;
      }
      assert.equal(row, out);
    }));
}

function wave(shape: readonly number[]) {
  return float32(Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(1 + i)), shape);
}
