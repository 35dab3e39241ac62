import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { float32 } from "../../autodiff/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { encodeSafetensors, readTorchFile, toFloat32 } from "../../models/weights/mod.ts";
import { close } from "../_test_close.ts";
import { openAestheticHead } from "./_aesthetic_head.ts";
import { withFolder } from "../../tests/support/mod.ts";

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const LAION = path("../shared/data/sac+logos+ava1-l14-linearMSE.pth");
const hasLaion = await Deno.stat(LAION).then(() => true, () => false);

/** The head as its authors run it, layer by layer, in float64. */
async function layerByLayer(file: string, x: Float64Array): Promise<number> {
  const { tensors } = await readTorchFile(file);
  const read = (name: string) => {
    const tensor = tensors.get(name);
    assert.ok(tensor, name);
    return toFloat32(tensor);
  };
  let h = x;
  for (const layer of [0, 2, 4, 6, 7]) {
    const [w, b] = [read(`layers.${layer}.weight`), read(`layers.${layer}.bias`)];
    const [out = 0, width = 0] = w.shape;
    assert.equal(h.length, width);
    h = Float64Array.from({ length: out }, (_, o) => {
      const row = w.data.subarray(o * width, (o + 1) * width);
      return h.reduce((sum, v, i) => sum + v * (row[i] ?? NaN), b.data[o] ?? NaN);
    });
  }
  return h[0] ?? NaN;
}

async function checkFold(file: string): Promise<number> {
  let width = 0;
  await withFolder(async (cacheDir) => {
    const head = await openAestheticHead(file, { cacheDir, activation: undefined });
    const [layer] = head.layers;
    assert.ok(layer !== undefined && head.layers.length === 1 && head.activation === "none");
    const { weight } = layer;
    const [bias = NaN] = layer.bias;
    width = head.width;
    const random = new Random(7);
    for (let trial = 0; trial < 3; trial++) {
      const raw = Float64Array.from(weight, () => random.normal());
      const norm = Math.hypot(...raw);
      const x = raw.map((v) => v / norm);
      const folded = x.reduce((sum, v, i) => sum + v * (weight[i] ?? NaN), bias);
      close([folded], [await layerByLayer(file, x)], 1e-9);
    }
  });
  return width;
}

Deno.test("A head folds into the affine map that its layers are", async () => {
  assert.equal(await checkFold(path("tests/golden/rewards/aesthetic_tiny.pth")), 24);
  assert.equal(await checkFold(path("zoo/rewards/aesthetic/aesthetic_tiny.pth")), 96);
});

Deno.test({
  name: "LAION's own head folds into the affine map that its layers are",
  ignore: !hasLaion,
  fn: async () => assert.equal(await checkFold(LAION), 768),
});

Deno.test("A head whose layers do not follow one another is refused", async () => {
  await withFolder(async (folder) => {
    const file = join(folder, "head.safetensors");
    const tensor = (...shape: number[]) =>
      float32(new Float32Array(shape.reduce((a, d) => a * d)), shape);
    const fails = async (tensors: Record<string, ReturnType<typeof tensor>>, message: RegExp) => {
      await Deno.writeFile(file, encodeSafetensors(tensors));
      await assert.rejects(
        openAestheticHead(file, { cacheDir: folder, activation: undefined }),
        message,
      );
    };
    await fails(
      { "layers.0.weight": tensor(3, 4), "layers.0.bias": tensor(3) },
      /weight "layers.0.weight" has 3 rows, expected 1/,
    );
    await fails({
      "layers.0.weight": tensor(3, 4),
      "layers.0.bias": tensor(3),
      "layers.1.weight": tensor(1, 5),
      "layers.1.bias": tensor(1),
    }, /weight "layers.1.weight" has shape \[1,5\], expected 3 columns/);
    await fails({ "mean": tensor(1) }, /has no linear layer named weight, linear.weight or layers/);
    await fails(
      { "0.weight": tensor(3, 4), "2.weight": tensor(1, 3) },
      /has layers 0, 2: an activation may stand between them; give the head's activation, one of none, relu/,
    );
    const named = { "head.fc1.weight": tensor(3, 4), "head.fc2.weight": tensor(1, 3) };
    await fails(named, /has layers fc1, fc2: an activation may stand between them; give/);
    await Deno.writeFile(file, encodeSafetensors(named));
    const head = await openAestheticHead(file, { cacheDir: folder, activation: "relu" });
    assert.deepEqual(head.layers.map(({ isActivated }) => isActivated), [true, false]);
    await fails(
      {
        "0.weight": tensor(3, 4),
        "1.weight": tensor(3),
        "1.running_mean": tensor(3),
        "2.weight": tensor(1, 3),
      },
      /weight "1.weight" has shape \[3\], expected a matrix/,
    );
  });
});
