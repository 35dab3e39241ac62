import assert from "node:assert/strict";
import { join } from "node:path";
import { repositoryPath } from "../models/support.ts";
import { copyBut, distanceFromNpy, drawFox } from "./_draw.ts";

const folder = repositoryPath("tests/published/steps_offset");

Deno.test("old scheduler files of Stable Diffusion give the picture that diffusers draws", async () => {
  for (const file of ["offset0", "no_offset", "clip_true"]) {
    const model = await copyBut(repositoryPath("tests/golden/tiny-sd"), "scheduler");
    await Deno.mkdir(join(model, "scheduler"));
    await Deno.copyFile(
      join(folder, `${file}.json`),
      join(model, "scheduler", "scheduler_config.json"),
    );
    const picture = await drawFox(model, { latents: join(folder, "latents.safetensors") });
    const distance = distanceFromNpy(picture, join(folder, "picture.npy"));
    assert.ok(distance < 1e-4, `${file} is ${distance} off`);
    await Deno.remove(model, { recursive: true });
  }
});
