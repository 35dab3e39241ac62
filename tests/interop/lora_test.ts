import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { float32, sizeOf } from "../../autodiff/mod.ts";
import { readPipeline, unetModules } from "../../models/diffusers/mod.ts";
import {
  initialLora,
  type Lora,
  type LoraConfig,
  loraShapes,
  toDiffusersLora,
  toKohyaLora,
  toPeftLora,
} from "../../models/lora/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { decodeSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { distance, drawn } from "./_drawn.ts";
import { PYTHON, runPeer } from "./_peer.ts";

const LATENTS = [1, 4, 16, 16];
const SETTINGS = { prompt: "a fox, and books", steps: 4, guidance: 5, scale: 0.7 };
/** Mean difference of two pictures that counts as none: a level of 8 bits. */
const LEVEL = 1 / 255;

interface Case {
  readonly model: string;
  readonly sampler: "ddim" | "dpmsolver++";
  /** The PEFT adapter is meant to change much, so that a wrong scale shows. */
  readonly least: number;
}

const CASES: readonly Case[] = [
  { model: "zoo/pipeline", sampler: "ddim", least: 0.03 },
  { model: "tests/golden/tiny-sdxl", sampler: "dpmsolver++", least: 0.02 },
];

for (const { model, sampler, least } of CASES) {
  Deno.test({
    name: `LoRA files of ${model} mean the same here, in diffusers and in PEFT`,
    ignore: PYTHON === undefined,
    async fn() {
      const folder = await mkdtemp(join(tmpdir(), "drtune-interop-"));
      try {
        const root = repositoryPath(model);
        const random = new Random(11, 0);
        const noise = float32(random.normals(sizeOf(LATENTS)), LATENTS);
        await writeSafetensors(join(folder, "noise.safetensors"), { x_T: noise });
        const latents = `${join(folder, "noise.safetensors")}#x_T`;
        const loras = await writeOurs(root, folder);
        const spec = { model: root, loras, latents, sampler, ...SETTINGS };
        await runPeer("diffusers_peer.py", { folder, spec });
        const theirs =
          decodeSafetensors(await readFile(join(folder, "images.safetensors"))).tensors;
        const peer = (name: string) => {
          const tensor = theirs[name];
          assert.ok(tensor?.dtype === "float32", name);
          return tensor;
        };

        const picture = (lora?: string, scale = 1) =>
          drawn({ ...SETTINGS, model: root, sampler, latents, lora, scale });
        const bare = await picture();
        assert.ok(distance(bare, peer("bare")) < LEVEL, "without LoRA");
        for (const [name, path] of Object.entries(loras)) {
          const ours = await picture(path, SETTINGS.scale);
          assert.ok(distance(ours, bare) > least, `${name} changes ${distance(ours, bare)}`);
          assert.ok(distance(ours, peer(name)) < LEVEL, `${name} in diffusers or PEFT`);
        }
        const places = {
          peft: "peft",
          diffusers: "peft",
          "kohya/lora.safetensors": "peft",
          "old/lora.safetensors": "old",
        };
        for (const [place, same] of Object.entries(places)) {
          const ours = await picture(join(folder, place));
          assert.ok(distance(ours, bare) > least, `${place} changes ${distance(ours, bare)}`);
          assert.ok(distance(ours, peer(same)) < LEVEL, `${place}: ${distance(ours, peer(same))}`);
        }
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  });
}

/** An adapter with alpha other than its rank, under each of our names and precisions. */
async function writeOurs(root: string, folder: string): Promise<Record<string, string>> {
  const { unet } = await readPipeline(root);
  const config = { rank: 4, alpha: 6, targets: ["to_q", "to_v", "to_out.0", "ff.net.2"] };
  const random = new Random(12, 0);
  const filled = (config: LoraConfig & { readonly targets: readonly string[] }): Lora => ({
    ...config,
    tensors: Object.fromEntries(
      Object.entries(initialLora(loraShapes(unetModules(unet), config), 1)).map((
        [name, { shape }],
      ) => [name, float32(random.normals(sizeOf(shape)).map((v) => 0.12 * v), shape)]),
    ),
  });
  const lora = filled(config);
  const out: Record<string, string> = {};
  const mixed = filled({
    ...config,
    rankPattern: { "to_q": 3, "mid_block.attentions.0.transformer_blocks.0.attn1.to_v": 2 },
    alphaPattern: { "ff.net.2": 12, "attn2.to_out.0": 1 },
  });
  for (const [name, adapter] of [["plain", lora], ["mixed", mixed]] as const) {
    const own = join(folder, `peft_${name}`);
    const { tensors, metadata, config } = toPeftLora(adapter);
    await mkdir(own, { recursive: true });
    await writeSafetensors(join(own, "adapter_model.safetensors"), tensors, metadata);
    await writeFile(join(own, "adapter_config.json"), JSON.stringify(config));
    out[`ours_peft_${name}`] = own;
  }
  for (const [name, write] of [["diffusers", toDiffusersLora], ["kohya", toKohyaLora]] as const) {
    const file = write(lora, { "drtune.steps": "50" });
    await mkdir(join(folder, "ours"), { recursive: true });
    out[`ours_${name}`] = join(folder, "ours", `${name}.safetensors`);
    await writeSafetensors(out[`ours_${name}`] ?? "", file.tensors, file.metadata);
  }
  return out;
}
