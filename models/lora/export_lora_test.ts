import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { repositoryPath } from "../../tests/models/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { loraParts, readPipeline, unetModules } from "../diffusers/mod.ts";
import { writeSafetensors } from "../weights/mod.ts";
import {
  initialLora,
  loadLora,
  type Lora,
  loraModules,
  loraShapes,
  toDiffusersLora,
  toKohyaLora,
  toPeftLora,
  trainableLora,
} from "./mod.ts";

const CONFIG = {
  rank: 3,
  alpha: 6,
  targets: ["to_q", "ff.net.2", "proj_in", "conv1", "time_emb_proj"],
  rankPattern: { "mid_block.attentions.0.proj_in": 2, "ff.net.2": 5 },
  alphaPattern: { "ff.net.2": 1.5 },
};

async function sample(model: string) {
  const pipeline = await readPipeline(repositoryPath(`tests/golden/${model}`));
  const layers = unetModules(pipeline.unet);
  const tensors = Object.fromEntries(
    Object.entries(initialLora(loraShapes(layers, CONFIG), 1)).map(([name, { data, shape }]) => [
      name,
      float32(data.map((v, i) => v + Math.cos(i)), shape),
    ]),
  );
  const lora: Lora = { ...CONFIG, tensors };
  return { pipeline, layers, lora };
}

for (const model of ["tiny-sd", "tiny-sdxl"]) {
  Deno.test(`${model}: every export names each layer's rank and alpha, and gives back what was written`, () =>
    withFolder(async (folder) => {
      const { pipeline, layers, lora } = await sample(model);
      const parts = loraParts(pipeline);
      const expected = loraModules(layers, lora).map((m) => [m.layer.name, m.rank, m.alpha]);
      const paths: string[] = [];
      for (const [name, write] of [["a", toDiffusersLora], ["b", toKohyaLora]] as const) {
        const path = join(folder, `${name}.safetensors`);
        const file = write(lora, { "drtune.steps": "50" });
        assert.equal(file.metadata["drtune.steps"], "50");
        await writeSafetensors(path, file.tensors, file.metadata);
        paths.push(path);
      }
      const peft = toPeftLora(lora);
      await mkdir(join(folder, "peft"));
      await writeSafetensors(join(folder, "peft", "adapter_model.safetensors"), peft.tensors);
      await writeFile(join(folder, "peft", "adapter_config.json"), JSON.stringify(peft.config));
      paths.push(join(folder, "peft"));
      for (const path of paths) {
        const { adapters } = await loadLora(path, parts);
        const back = trainableLora(adapters, { layers, path });
        assert.deepEqual(back.tensors, lora.tensors, path);
        const found = loraModules(layers, back).map((m) => [m.layer.name, m.rank, m.alpha]);
        assert.deepEqual(found, expected, path);
      }
    }));

  // comfy/lora.py: `lora_unet_` and the module's name, diffusers' or the original one, with underscores; the factor is
  // alpha over the rows of lora_down; up and down are flattened to matrices whose product has the weight's shape.
  Deno.test(`${model}: kohya's export fits the key map of web UIs`, async () => {
    const { layers, lora } = await sample(model);
    const keyMap = new Map(
      layers.flatMap((layer) =>
        [layer.name, ...layer.aliases.map(({ name }) => name)].map((name) =>
          [`lora_unet_${name.replaceAll(".", "_")}`, layer] as const
        )
      ),
    );
    const { tensors } = toKohyaLora(lora);
    const loaded = new Set<string>();
    const modules = new Map(loraModules(layers, lora).map((m) => [m.layer.name, m]));
    for (const [x, layer] of keyMap) {
      const [up, down] = [tensors[`${x}.lora_up.weight`], tensors[`${x}.lora_down.weight`]];
      if (up === undefined || down === undefined) continue;
      const alpha = tensors[`${x}.alpha`];
      assert.ok(alpha?.dtype === "float32");
      for (const end of ["lora_up.weight", "lora_down.weight", "alpha"]) loaded.add(`${x}.${end}`);
      const { rank, alpha: own } = modules.get(layer.name) ?? { rank: 0, alpha: 0 };
      const [columns = 0, ...inner] = down.shape;
      assert.equal((alpha.data[0] ?? NaN) / columns, own / rank, x);
      const size = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);
      assert.equal(size(up.shape) / columns * size(inner), size(layer.shape), x);
    }
    assert.deepEqual([...loaded].sort(), Object.keys(tensors).sort());
  });
}

Deno.test("an XL model's modules have Stability's names, a small one's CompVis'", async () => {
  const names = async (model: string) => {
    const { unet } = await readPipeline(repositoryPath(`tests/golden/${model}`));
    return new Map(unetModules(unet).map(({ name, aliases }) => [name, aliases[0]?.name]));
  };
  const xl = await names("tiny-sdxl");
  const expected = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.3.0.skip_connection",
    "down_blocks.1.attentions.0.proj_in": "input_blocks.3.1.proj_in",
    "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
    "mid_block.attentions.0.proj_out": "middle_block.1.proj_out",
    "up_blocks.0.attentions.1.transformer_blocks.1.attn2.to_k":
      "output_blocks.1.1.transformer_blocks.1.attn2.to_k",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
    "up_blocks.1.resnets.1.conv2": "output_blocks.3.0.out_layers.3",
    "conv_out": "out.2",
  };
  for (const [name, original] of Object.entries(expected)) assert.equal(xl.get(name), original);
  // Without attentions, an upsampler takes their place.
  assert.equal(
    (await names("tiny-sd")).get("up_blocks.0.upsamplers.0.conv"),
    "output_blocks.1.1.conv",
  );
});
