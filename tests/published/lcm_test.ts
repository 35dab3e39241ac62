import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../models/weights/mod.ts";
import { readRunPipeline } from "../../trainer/mod.ts";
import { readTensors, repositoryPath } from "../models/mod.ts";
import { copyBut, distanceFromNpy, drawFox } from "./_draw.ts";

// A latent consistency model: make_lcm.py.

const folder = repositoryPath("tests/published/lcm");
const tiny = repositoryPath("tests/golden/tiny-sd");

Deno.test("a latent consistency model reads the scale of guidance as in diffusers", async () => {
  const projection = openSafetensors(join(folder, "cond_proj.safetensors"));
  const weight = await projection.readFloat32("weight");
  const model = await copyBut(tiny, "unet");
  try {
    await Deno.mkdir(join(model, "unet"));
    const config = JSON.parse(await Deno.readTextFile(join(tiny, "unet", "config.json")));
    await Deno.writeTextFile(
      join(model, "unet", "config.json"),
      JSON.stringify({ ...config, time_cond_proj_dim: weight.shape[1] }),
    );
    const name = "diffusion_pytorch_model.safetensors";
    await writeSafetensors(join(model, "unet", name), {
      ...readTensors(`tests/golden/tiny-sd/unet/${name}`),
      "time_embedding.cond_proj.weight": weight,
    });
    const latents = repositoryPath("tests/published/steps_offset/latents.safetensors");
    const picture = await drawFox(model, { latents });
    const expected = join(folder, "picture.npy");
    assert.ok(
      distanceFromNpy(picture, expected) < 1e-4,
      `${distanceFromNpy(picture, expected)} off`,
    );
    // Without it another picture.
    assert.ok(distanceFromNpy(await drawFox(tiny, { latents }), expected) > 1e-2);
    const { defaults } = await readRunPipeline(model);
    assert.deepEqual([defaults.samplerKind, defaults.guidanceScale], ["lcm", 8.5]);
  } finally {
    await Deno.remove(model, { recursive: true });
  }
});
