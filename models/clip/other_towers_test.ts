import assert from "node:assert/strict";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { WeightsError, writeSafetensors } from "../weights/mod.ts";
import { openClip } from "./clip_model.ts";

/** What people take for a CLIP that is read here: names that only it has, and what it is called. */
const OTHERS: readonly (readonly [readonly string[], string])[] = [
  [
    ["visual.conv1.weight", "visual.layer1.0.conv1.weight", "visual.attnpool.c_proj.weight"],
    "ResNet",
  ],
  [["module.visual.trunk.stem.0.weight", "module.token_embedding.weight"], "timm's"],
  [["visual.trunk.blocks.0.attn.qkv.weight", "text.transformer.embeddings.word.weight"], "timm's"],
  [["vision_model.embeddings.patch_embedding.weight", "logit_bias"], "a SigLIP"],
  [["visual.conv1.weight", "text.token_embedding.weight", "text.cls_emb"], "a CoCa"],
  [["visual.conv1.weight", "text.transformer.embeddings.word.weight"], "Hugging Face's"],
  [["visual.conv1.weight", "text.token_embedding.weight"], "(custom_text)"],
];

for (const [names, what] of OTHERS) {
  Deno.test(`a file with ${names.at(-1)} is refused as ${what}`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "open_clip_model.safetensors");
      await writeSafetensors(
        path,
        Object.fromEntries(names.map((name) => [name, float32([0], [1])])),
      );
      await assert.rejects(openClip(folder, { cacheDir: folder }), (error) => {
        assert.ok(error instanceof WeightsError);
        assert.ok(error.message.includes(`${path}: holds `), error.message);
        assert.ok(error.message.includes(`${what}`), error.message);
        assert.match(error.message, /expected towers of CLIP's own kind/);
        return true;
      });
    }));
}
