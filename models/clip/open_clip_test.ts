import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { float32, type TensorOf } from "../../autodiff/mod.ts";
import { readJsonObject } from "../config.ts";
import { encodeSafetensors, openWeights } from "../weights/mod.ts";
import { openClip } from "./clip_model.ts";
import { inferOpenClipConfig, parseOpenClipConfig } from "./open_clip_config.ts";
import { openClipWeights } from "./open_clip_weights.ts";
import { withFolder } from "../../tests/support/mod.ts";

const GOLDEN = fileURLToPath(new URL("../../tests/golden/rewards/", import.meta.url));

/** The weights that a configuration can be read from. */
function stateDict({ width, textWidth }: { width: number; textWidth: number }) {
  const zeros = (...shape: number[]): TensorOf<"float32"> =>
    float32(new Float32Array(shape.reduce((a, d) => a * d, 1)), shape);
  return {
    "visual.conv1.weight": zeros(width, 3, 2, 2),
    "visual.positional_embedding": zeros(17, width),
    "visual.proj": zeros(width, 24),
    "visual.transformer.resblocks.0.mlp.c_fc.weight": zeros(2 * width, width),
    "visual.transformer.resblocks.11.ln_1.weight": zeros(width),
    "token_embedding.weight": zeros(40, textWidth),
    "positional_embedding": zeros(77, textWidth),
    "transformer.resblocks.0.mlp.c_fc.weight": zeros(4 * textWidth, textWidth),
    "transformer.resblocks.3.ln_1.weight": zeros(textWidth),
  };
}

Deno.test("inferOpenClipConfig() reads shapes, and knows the heads of published widths", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const infer = async (widths: { width: number; textWidth: number }) => {
      await Deno.writeFile(path, encodeSafetensors(stateDict(widths)));
      return inferOpenClipConfig(await openWeights(path));
    };
    const common = { activation: "gelu", epsilon: 1e-5 };
    assert.deepEqual(await infer({ width: 128, textWidth: 64 }), {
      projectionDim: 24,
      vision: {
        ...common,
        width: 128,
        mlpWidth: 256,
        layers: 12,
        heads: 2,
        imageSize: 8,
        patchSize: 2,
      },
      text: {
        ...common,
        width: 64,
        mlpWidth: 256,
        layers: 4,
        heads: 1,
        vocabSize: 40,
        contextLength: 77,
        projectionDim: 24,
        eosTokenId: 2,
      },
    });
    const heads = async (width: number) => (await infer({ width, textWidth: 64 })).vision.heads;
    assert.deepEqual([await heads(1280), await heads(1664), await heads(1024)], [16, 16, 16]);
    await assert.rejects(
      infer({ width: 48, textWidth: 64 }),
      /"visual.transformer" has width 48, which heads of 64 do not divide; give the model's open_clip/,
    );
  });
});

Deno.test("A configuration given, found or inferred is the same model", async () => {
  const path = join(GOLDEN, "open_clip_tiny.json");
  const config = parseOpenClipConfig(await readJsonObject(path), path);
  assert.deepEqual([config.vision.heads, config.vision.imageSize, config.text.heads], [4, 32, 4]);
  await withFolder(async (cacheDir) => {
    const file = join(GOLDEN, "open_clip_tiny.pt");
    const found = await openClip(file, { cacheDir });
    assert.deepEqual(found.config, config);
    assert.equal(found.format, "open_clip");
    assert.ok(Math.abs(found.logitScale - 1 / 0.07) < 1e-5);
    await Deno.copyFile(file, join(cacheDir, "alone.pt"));
    await assert.rejects(openClip(join(cacheDir, "alone.pt"), { cacheDir }), /heads of 64/);
    const given = await openClip(join(cacheDir, "alone.pt"), { cacheDir, config: path });
    assert.deepEqual(given.config, config);
  });
});

Deno.test("parseOpenClipConfig() refuses what the towers here cannot do", () => {
  const parse = (vision: Record<string, unknown>, rest: Record<string, unknown> = {}) =>
    parseOpenClipConfig({ embed_dim: 8, vision_cfg: vision, text_cfg: {}, ...rest }, "c.json");
  assert.equal(parse({ image_size: [28, 28], patch_size: 14 }).vision.imageSize, 28);
  assert.equal(parse({}, { quick_gelu: true }).text.activation, "quick_gelu");
  const fails = (vision: Record<string, unknown>, message: RegExp, rest = {}) =>
    assert.throws(() => parse(vision, rest), message);
  fails({ image_size: [28, 56] }, /"vision_cfg.image_size" is \[28,56\], expected a whole number/);
  fails({ timm_model_name: "vit" }, /timm_model_name/);
  fails({ head_width: 50 }, /"vision_cfg.head_width" is 50, expected a divisor of width/);
  fails({ pool_type: "avg" }, /"vision_cfg.pool_type" is "avg", expected "tok"/);
  fails({}, /"custom_text" is true, expected false/, { custom_text: true });
});

Deno.test("openClipWeights() slices fused projections and marks transposed ones", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const data = Float32Array.from({ length: 12 }, (_, i) => i);
    await Deno.writeFile(
      path,
      encodeSafetensors({
        "visual.transformer.resblocks.0.attn.in_proj_weight": float32(data, [6, 2]),
        "visual.transformer.resblocks.0.attn.in_proj_bias": float32(data.subarray(0, 6), [6]),
        "text_projection": float32(data, [3, 4]),
      }),
    );
    const source = await openWeights(path);
    const table = openClipWeights(source);
    const layer = "vision_model.encoder.layers.0.self_attn";
    const at = ["q_proj", "k_proj", "v_proj"].map((name) => table.get(`${layer}.${name}.weight`));
    const { offset } = source.get("visual.transformer.resblocks.0.attn.in_proj_weight");
    assert.deepEqual(at.map((w) => [w.offset - offset, w.shape]), [
      [0, [2, 2]],
      [16, [2, 2]],
      [32, [2, 2]],
    ]);
    assert.deepEqual(table.get(`${layer}.v_proj.bias`).shape, [2]);
    const projection = table.get("text_projection.weight");
    assert.deepEqual([projection.shape, projection.transposed], [[4, 3], true]);
    assert.ok(!table.has("vision_model.encoder.layers.1.self_attn.q_proj.weight"));
  });
});
