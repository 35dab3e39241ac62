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

/** Names of one layer that trainers of FLUX.1 write, each with its halves' ends. */
const PLAIN: readonly (readonly [string, string, string, string])[] = [
  ["double_blocks.0.processor.proj_lora1", ".down.weight", ".up.weight", "attn.to_out.0"],
  ["double_blocks.0.processor.proj_lora2", ".down.weight", ".up.weight", "attn.to_add_out"],
  [
    "lora_unet_transformer_blocks_0_attn_to_k_",
    ".lora_down.weight",
    ".lora_up.weight",
    "attn.to_k",
  ],
  [
    "lora_transformer_transformer_blocks_0_attn_to_out_0",
    ".lora_down.weight",
    ".lora_up.weight",
    "attn.to_out.0",
  ],
];

for (const [module, down, up, of] of PLAIN) {
  Deno.test(`flux: ${module}${down} is read`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "lora.safetensors");
      const [a, b] = [wave([2, 32]), wave([32, 2])];
      await writeSafetensors(path, { [module + down]: a, [module + up]: b });
      const pipeline = await pipelineOf("flux");
      const { adapters } = await loadLora(path, loraPartsOf(pipeline));
      const { tensors } = trainableLora(adapters, { layers: pipeline.transformer.layers, path });
      const name = `transformer_blocks.0.${of}`;
      assert.deepEqual(tensors, { [`${name}.lora_A.weight`]: a, [`${name}.lora_B.weight`]: b });
    }));
}

Deno.test("flux: XLabs' file is read as diffusers converts it", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    const tensors: Record<string, Tensor> = {};
    const modules = [
      ["double_blocks.1.processor.qkv_lora1", 32, 96],
      [
        "double_blocks.1.processor.qkv_lora2",
        32,
        96,
      ],
      ["single_blocks.0.processor.qkv_lora", 32, 96],
      [
        "single_blocks.0.processor.proj_lora",
        160,
        32,
      ],
    ] as const;
    for (const [name, input, out] of modules) {
      tensors[`${name}.down.weight`] = wave([2, input]);
      tensors[`${name}.up.weight`] = wave([out, 2]);
    }
    await writeSafetensors(path, tensors);
    const pipeline = await pipelineOf("flux");
    const { adapters } = await loadLora(path, loraPartsOf(pipeline));
    const { tensors: read } = trainableLora(adapters, {
      layers: pipeline.transformer.layers,
      path,
    });
    const [up, rows] = [wave([96, 2]), 32];
    for (
      const [block, names] of [
        ["transformer_blocks.1.attn", ["to_q", "to_k", "to_v"]],
        ["transformer_blocks.1.attn", ["add_q_proj", "add_k_proj", "add_v_proj"]],
        ["single_transformer_blocks.0.attn", ["to_q", "to_k", "to_v"]],
      ] as const
    ) {
      for (const [i, name] of names.entries()) {
        const part = up.data.slice(2 * rows * i, 2 * rows * (i + 1));
        assert.deepEqual(read[`${block}.${name}.lora_B.weight`], float32(part, [rows, 2]), name);
      }
    }
    assert.deepEqual(
      read["single_transformer_blocks.0.proj_out.lora_A.weight"],
      wave([2, 160]),
    );
    assert.equal(Object.keys(read).length, 2 * 10);
  }));

Deno.test("flux: an OFT file is refused for what it is, whichever of its tensors comes first", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    await writeSafetensors(path, {
      "oft_unet_double_blocks_1_img_mlp_2.alpha": float32([1], []),
      "oft_unet_double_blocks_1_img_mlp_2.oft_blocks.0": wave([2, 2]),
    });
    const parts = loraPartsOf(await pipelineOf("flux"));
    await assert.rejects(loadLora(path, parts), /is OFT or BOFT/);
  }));

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
