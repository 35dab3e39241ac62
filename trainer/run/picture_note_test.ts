import assert from "node:assert/strict";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import { pictureNote } from "./picture_note.ts";
import { encodePng } from "./pictures.ts";

const facts = {
  prompt: "a fox, and books",
  seed: 5,
  sampler: { kind: "dpmsolver++", steps: 20, karrasSigmas: true },
  guidance: 7.5,
  height: 8,
  width: 16,
  model: "models/sd-v1-5.safetensors",
} as const;

Deno.test("pictures carry how they were drawn, as web UIs read it", async () => {
  assert.equal(
    pictureNote(facts),
    "a fox, and books\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 5, " +
      "Size: 16x8, Model: sd-v1-5, Version: DRTune",
  );
  const images = float32(Float32Array.from({ length: 3 * 8 * 16 }, (_, i) => i / 384), [
    1,
    3,
    8,
    16,
  ]);
  const plain = await encodePng(images, 0);
  for (const prompt of ["a fox, née Füchsin", "狐 🦊"]) {
    const note = pictureNote({ ...facts, prompt, lora: { name: "books-1", scale: 0.7 } });
    assert.ok(note.startsWith(`${prompt} <lora:books-1:0.7>\nSteps: 20, `));
    const png = await encodePng(images, 0, note);
    const { comments } = await sharp(png).metadata();
    assert.deepEqual(comments?.map(({ keyword, text }) => [keyword, text]), [["parameters", note]]);
    assert.deepEqual(await sharp(png).raw().toBuffer(), await sharp(plain).raw().toBuffer());
  }
});
