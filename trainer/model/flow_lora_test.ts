import assert from "node:assert/strict";
import { join } from "node:path";
import { float32, sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { loraPartsOf, readFlowPipeline } from "../../models/flow/mod.ts";
import { loadLora } from "../../models/lora/mod.ts";
import { writeSafetensors } from "../../models/weights/mod.ts";
import type { Engine } from "../../runtime/mod.ts";
import { relativeError, repositoryPath, withEngine } from "../../tests/models/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { FlowModel } from "./mod.ts";

type File = Readonly<Record<string, Tensor>>;

/** Velocities of a tiny pipeline with each of some LoRA files. */
async function velocities(family: string, files: readonly File[], engine: Engine) {
  const pipeline = await readFlowPipeline(repositoryPath(`tests/golden/flow/tiny-${family}`));
  const found: Float32Tensor[] = [];
  await withFolder(async (folder) => {
    for (const [i, file] of files.entries()) {
      const path = join(folder, `${i}.safetensors`);
      await writeSafetensors(path, file);
      const { adapters } = await loadLora(path, loraPartsOf(pipeline));
      const { changes = [], tensors = {} } = adapters.transformer ?? {};
      const model = new FlowModel(pipeline, engine, {
        lora: changes,
        session: { intraOpNumThreads: 1 },
        text: { maxSequenceLength: 16 },
      });
      const { conditional } = await model.prompts.encode(["a red cat"], { height: 4, width: 4 });
      const x = wave([1, pipeline.transformer.channels, 4, 4], 1);
      const denoiser = await model.adapt(tensors);
      found.push(...await denoiser.predict({ x, timesteps: [500], branches: [conditional] }));
      await denoiser.release();
      await model.dispose();
    }
  });
  return found;
}

function wave(shape: readonly number[], seed: number) {
  return float32(
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(seed + 7 * i)),
    shape,
  );
}

/** W1 ⊗ W2. */
function kronecker(left: ReturnType<typeof wave>, right: ReturnType<typeof wave>) {
  const [[a = 1, b = 1], [c = 1, d = 1]] = [left.shape, right.shape];
  const at = ({ data }: typeof left, i: number) => data[i] ?? NaN;
  const data = Float32Array.from({ length: a * c * b * d }, (_, i) => {
    const [row, column] = [Math.floor(i / (b * d)), i % (b * d)];
    const one = at(left, Math.floor(row / c) * b + Math.floor(column / d));
    return one * at(right, (row % c) * d + column % d);
  });
  return float32(data, [a * c, b * d]);
}

// huggingface/diffusers#13261: LoKr of FLUX.2 Klein in the authors' names, whose factors do not end where layers do.
Deno.test("LoKr of fused layers changes each layer by its rows of the product", () =>
  withEngine(async (engine) => {
    const [lokr, full, none]: Record<string, Tensor>[] = [{}, {}, {}];
    assert.ok(lokr && full && none);
    const modules = [
      ["double_blocks.0.img_attn.qkv", 96, 32, 4],
      ["double_blocks.0.txt_attn.qkv", 96, 32, 3],
      ["double_blocks.0.img_mlp.0", 192, 32, 4],
      ["single_blocks.0.linear1", 288, 32, 4],
    ] as const;
    for (const [i, [name, out, width, factor]] of modules.entries()) {
      const module = `diffusion_model.${name}`;
      const left = wave([factor, 4], i);
      const right = wave([out / factor, width / 4], i + 9);
      lokr[`${module}.lokr_w1`] = left;
      lokr[`${module}.lokr_w2`] = right;
      // What ai-toolkit writes beside whole factors, which are not scaled.
      lokr[`${module}.alpha`] = float32([9999999827968], []);
      full[`${module}.diff`] = kronecker(left, right);
      none[`${module}.diff`] = float32(new Float32Array(out * width), [out, width]);
    }
    const [found, expected, without] = await velocities("flux2", [lokr, full, none], engine);
    assert.ok(found && expected && without);
    assert.ok(relativeError({ v: found }, { v: expected }) < 1e-5);
    assert.ok(relativeError({ v: found }, { v: without }) > 0.01);
  }));

// huggingface/diffusers#13203: files of Z-Image that hold the fused layer again.
Deno.test("a layer under its own name and as part of a fused one is read by its own, alpha and all", () =>
  withEngine(async (engine) => {
    const own: Record<string, Tensor> = {};
    const again: Record<string, Tensor> = {};
    const at = "lora_unet_layers_0_attention_";
    const add = (file: Record<string, Tensor>, name: string, out: number, seed: number) => {
      file[`${at}${name}.lora_down.weight`] = wave([2, 32], seed);
      file[`${at}${name}.lora_up.weight`] = wave([out, 2], seed + 1);
    };
    for (const [i, name] of ["to_q", "to_k", "to_v", "to_out_0"].entries()) add(own, name, 32, i);
    for (const [name, out] of [["qkv", 96], ["out", 32]] as const) {
      add(again, name, out, 20);
      again[`${at}${name}.alpha`] = float32([0.5], []);
    }
    const files = [own, { ...again, ...own }, { ...own, ...again }];
    const [expected, ...found] = await velocities("zimage", files, engine);
    assert.deepEqual(found, [expected, expected]);
  }));
