import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { float32, sizeOf } from "../../autodiff/mod.ts";
import { readFlowPipeline } from "../../models/flow/mod.ts";
import {
  initialLora,
  type Lora,
  loraShapes,
  toDiffusersLora,
  toKohyaLora,
} from "../../models/lora/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { decodeSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { repositoryPath } from "../models/mod.ts";
import { withFolder } from "../support/mod.ts";
import { distance, drawn } from "./_drawn.ts";
import { PYTHON, runPeer } from "./_peer.ts";

const SETTINGS = { prompt: "a red cat, and books", steps: 3, guidance: 3.5, scale: 0.7 };
/** Mean difference of two pictures that counts as none: a level of 8 bits. */
const LEVEL = 1 / 255;
/** What a LoRA is to change at least, so that a wrong scale shows. */
const LEAST = 4 * LEVEL;

interface Case {
  readonly name: string;
  /** Channels, height and width of its latents. */
  readonly latents: readonly [number, number, number];
  readonly targets: readonly string[];
  /** Whether diffusers reads kohya's names for this family. */
  readonly kohya: boolean;
}

const CASES: readonly Case[] = [
  {
    name: "tiny-sd3",
    latents: [16, 16, 16],
    targets: ["to_q", "to_v", "add_q_proj"],
    kohya: false,
  },
  { name: "tiny-flux", latents: [16, 16, 16], targets: ["to_k", "to_out.0"], kohya: true },
  { name: "tiny-flux2", latents: [32, 8, 8], targets: ["to_q", "to_v", "to_out.0"], kohya: false },
  { name: "tiny-zimage", latents: [16, 16, 16], targets: ["to_q", "to_out.0"], kohya: false },
];

Deno.test({
  name:
    "flow models draw what diffusers draws, and their LoRA files mean the same here, there and in PEFT",
  ignore: PYTHON === undefined,
  fn: () =>
    withFolder(async (folder) => {
      const cases = await Promise.all(CASES.map((c, i) => prepared(c, { seed: i, folder })));
      const spec = { ...SETTINGS, cases };
      await runPeer("flow_peer.py", { folder, spec });
      for (const { name, model, latents, loras } of cases) {
        const file = await readFile(join(folder, name, "images.safetensors"));
        const { tensors } = decodeSafetensors(file);
        const peer = (picture: string) => {
          const tensor = tensors[picture];
          assert.ok(tensor?.dtype === "float32", picture);
          return tensor;
        };
        const picture = (lora?: string, scale?: number) =>
          drawn({ ...SETTINGS, model, latents, lora, scale });
        const bare = await picture();
        const apart = distance(bare, peer("bare"));
        assert.ok(apart < LEVEL, `${name} without a LoRA is ${apart} apart`);
        const check = async (what: string, ours: ReturnType<typeof picture>, theirs: string) => {
          const image = await ours;
          assert.ok(
            distance(image, bare) > LEAST,
            `${name}, ${what} changes ${distance(image, bare)}`,
          );
          const off = distance(image, peer(theirs));
          assert.ok(off < LEVEL, `${name}, ${what} is ${off} apart`);
        };
        for (const [what, path] of Object.entries(loras)) {
          await check(what, picture(path, SETTINGS.scale), what);
        }
        for (const place of ["diffusers", "peft"]) {
          await check(`PEFT's as ${place}`, picture(join(folder, name, place)), "peft");
        }
      }
    }),
});

/** Noise, and an adapter of ours with alpha other than its rank, under each of our names. */
async function prepared(
  { name, latents: [channels, height, width], targets, kohya }: Case,
  { seed, folder }: { readonly seed: number; readonly folder: string },
) {
  const model = repositoryPath(join("tests/golden/flow", name));
  const { transformer } = await readFlowPipeline(model);
  const random = new Random(20 + seed, 0);
  const own = join(folder, `${name}-ours`);
  await mkdir(own);
  const shape = [1, channels, height, width];
  await writeSafetensors(join(own, "noise.safetensors"), {
    x: float32(random.normals(sizeOf(shape)), shape),
  });
  const config = { rank: 4, alpha: 6, targets };
  const tensors = Object.fromEntries(
    Object.entries(initialLora(loraShapes(transformer.layers, config), 1)).map(([key, t]) => [
      key,
      float32(random.normals(sizeOf(t.shape)).map((v) => 0.4 * v), t.shape),
    ]),
  );
  const lora: Lora = { ...config, tensors };
  const writers = { diffusers: toDiffusersLora, ...(kohya && { kohya: toKohyaLora }) };
  const loras: Record<string, string> = {};
  for (const [form, write] of Object.entries(writers)) {
    const file = write(lora, { "drtune.steps": "50" });
    loras[form] = join(own, `${form}.safetensors`);
    await writeSafetensors(loras[form] ?? "", file.tensors, file.metadata);
  }
  return { name, model, latents: `${join(own, "noise.safetensors")}#x`, loras, targets };
}
