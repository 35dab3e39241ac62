import assert from "node:assert/strict";
import { type AdaptableLayer, initialLora, isTarget, loraShapes } from "./adapter.ts";

const LAYERS: readonly AdaptableLayer[] = [
  ["b.attentions.0.transformer_blocks.0.attn1.to_q", 8, 6],
  ["b.attentions.0.transformer_blocks.0.attn2.to_out.0", 8, 8],
  ["b.attentions.0.transformer_blocks.0.ff.net.2", 8, 32],
].map(([name, out, width]) => ({
  name: String(name),
  shape: [Number(out), Number(width)],
  aliases: [],
}));
const CONFIG = { rank: 4, alpha: 4, targets: ["to_q", "ff.net.2"] };

Deno.test("loraShapes lists A and B of each target, in the layers' order", () => {
  assert.deepEqual(loraShapes(LAYERS, CONFIG), [
    { name: "b.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", shape: [4, 6] },
    { name: "b.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight", shape: [8, 4] },
    { name: "b.attentions.0.transformer_blocks.0.ff.net.2.lora_A.weight", shape: [4, 32] },
    { name: "b.attentions.0.transformer_blocks.0.ff.net.2.lora_B.weight", shape: [8, 4] },
  ]);
});

Deno.test("a target is a module's name or whole words at its end", () => {
  assert.ok(isTarget("a.attn1.to_q", "to_q"));
  assert.ok(isTarget("a.attn1.to_q", "attn1.to_q"));
  assert.ok(isTarget("a.attn1.to_q", "a.attn1.to_q"));
  assert.ok(!isTarget("a.attn1.add_to_q", "to_q"));
  assert.ok(!isTarget("a.attn1.to_q.x", "to_q"));
});

Deno.test("ranks, alphas and targets that make no adapter are refused", () => {
  const refused = (change: Partial<typeof CONFIG>, message: RegExp) =>
    assert.throws(() => loraShapes(LAYERS, { ...CONFIG, ...change }), message);
  refused({ rank: 0 }, /LoRA rank is 0, expected a whole number from 1 to 4096/);
  refused({ rank: 1e9 }, /LoRA rank is 1000000000/);
  refused({ rank: 1.5 }, /LoRA rank is 1.5/);
  refused({ alpha: NaN }, /LoRA alpha is NaN, expected a number above 0/);
  refused({ targets: ["proj_in"] }, /target "proj_in" names no layer.* to_q, to_out.0, ff.net.2/);
  refused({ targets: [] }, /LoRA targets are empty, expected at least one/);
});

Deno.test("a new adapter is uniform in A, zero in B, and a function of the seed", () => {
  const name = "b.attentions.0.transformer_blocks.0.ff.net.2.lora_A.weight";
  const shapes = loraShapes(LAYERS, { ...CONFIG, rank: 64 });
  const tensors = initialLora(shapes, 7);
  assert.deepEqual(Object.keys(tensors), shapes.map((s) => s.name));
  const data = tensors[name]?.data ?? new Float32Array();
  const bound = 1 / Math.sqrt(32);
  assert.ok(data.every((v) => Math.abs(v) < bound));
  const variance = data.reduce((sum, v) => sum + v * v, 0) / data.length;
  // A uniform variable in ±b has variance b²/3, known here to 5 of its standard errors, b² √(4/45) / √n.
  const error = bound ** 2 * Math.sqrt(4 / 45 / data.length);
  assert.ok(Math.abs(variance - bound ** 2 / 3) < 5 * error, String(variance));
  for (const [key, tensor] of Object.entries(tensors)) {
    if (key.endsWith(".lora_B.weight")) assert.ok(tensor.data.every((v) => v === 0), key);
  }
  assert.deepEqual(initialLora(shapes, 7), tensors);
  assert.notDeepEqual(initialLora(shapes, 8)[name]?.data, data);
});
