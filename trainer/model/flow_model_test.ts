import assert from "node:assert/strict";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { type FlowPipeline, readFlowPipeline } from "../../models/flow/mod.ts";
import {
  bfloat16ToFloat32,
  copyToSafetensors,
  float32ToBfloat16,
  openSafetensors,
} from "../../models/weights/mod.ts";
import type { Engine } from "../../runtime/mod.ts";
import { repositoryPath, withEngine } from "../../tests/models/mod.ts";
import { withFolder } from "../../tests/support/mod.ts";
import { randomStream } from "../random.ts";
import { type Float32Tensor, mapParameters } from "../tensors.ts";
import { FlowModel, type FlowModelOptions } from "./mod.ts";

const PROMPTS = ["a red cat, and books.", "a house"];
const SIZE = { height: 8, width: 12 };

/** Velocities, parameters' and latents' gradients of two images in both branches. */
async function productsOf(
  opened: string | FlowPipeline,
  engine: Engine,
  options: Partial<FlowModelOptions> = {},
): Promise<Readonly<Record<string, Float32Tensor>>> {
  const pipeline = typeof opened === "string" ? await readFlowPipeline(opened) : opened;
  const model = new FlowModel(pipeline, engine, {
    lora: { rank: 2, alpha: 2 },
    session: { intraOpNumThreads: 1 },
    text: { maxSequenceLength: 24 },
    ...options,
  });
  const random = randomStream(4, "noise");
  const shape = [2, pipeline.transformer.channels, SIZE.height, SIZE.width];
  const normals = (s: readonly number[]) =>
    float32(random.normals(s.reduce((a, b) => a * b, 1)).map((v) => 0.3 * v), s);
  const parameters = mapParameters(model.initialParameters(1), (p) => normals(p.shape));
  const { conditional, unconditional } = await model.prompts.encode(PROMPTS, SIZE);
  const rows = {
    x: normals(shape),
    timesteps: [900, 123.25],
    branches: [unconditional, conditional],
  };
  const denoiser = await model.adapt(parameters);
  const [u, c] = await denoiser.predict(rows);
  assert.ok(u && c);
  const { parameters: found, x } = await denoiser.vjp(rows, [c, u], { input: true });
  assert.ok(x);
  assert.deepEqual(Object.keys(found).sort(), Object.keys(parameters).sort());
  await denoiser.release();
  await model.dispose();
  return { u, c, x, ...found };
}

function assertSame(
  actual: Readonly<Record<string, Float32Tensor>>,
  expected: Readonly<Record<string, Float32Tensor>>,
  tolerance: number,
): void {
  const top = Math.max(...Object.values(expected).map(largest));
  for (const [name, t] of Object.entries(expected)) {
    const found = actual[name];
    assert.deepEqual(found?.shape, t.shape, name);
    const limit = tolerance * largest(t) + 1e-6 * top;
    t.data.forEach((v, i) => {
      const apart = Math.abs(v - (found?.data[i] ?? NaN));
      assert.ok(apart <= limit, `${name}[${i}] is ${apart / largest(t)} off`);
    });
  }
}

const largest = ({ data }: Float32Tensor) => data.reduce((a, v) => Math.max(a, Math.abs(v)), 0);

for (const name of ["sd3", "flux", "flux2", "zimage"]) {
  const golden = repositoryPath(`tests/golden/flow/tiny-${name}`);
  Deno.test(`${name}: bfloat16 weights are read as they lie, in pieces and whole`, () =>
    withEngine((engine) =>
      withFolder(async (folder) => {
        const [half, rounded] = [join(folder, "half"), join(folder, "rounded")];
        for (const to of [half, rounded]) await copyOf(golden, to, to === half);
        const expected = await productsOf(rounded, engine);
        assertSame(await productsOf(half, engine), expected, 1e-5);
        const limits = { memory: 1, forward: 1, products: 1 };
        assertSame(await productsOf(half, engine, { limits }), expected, 1e-4);
      })
    ));
}

Deno.test("sd3 without T5: one token stands for its zeros, and nothing but the time changes", () =>
  withEngine(async (engine) => {
    const pipeline = await readFlowPipeline(repositoryPath("zoo/flow_pipeline"));
    const { joinsEqual, ...transformer } = pipeline.transformer;
    assert.ok(joinsEqual);
    const expected = await productsOf({ ...pipeline, transformer }, engine);
    const counts = new Set<number>();
    const always = (_size: unknown, equal: number) => {
      counts.add(equal);
      return true;
    };
    const joining = { ...pipeline, transformer: { ...transformer, joinsEqual: always } };
    assertSame(await productsOf(joining, engine), expected, 1e-4);
    assert.deepEqual([...counts], [24]);
    const limits = { memory: 1, forward: 1, products: 1 };
    assertSame(await productsOf(joining, engine, { limits }), expected, 1e-4);

    const zoo = { batch: 1, height: 16, width: 16, tokens: 32 + 256 };
    assert.ok(joinsEqual(zoo, 256));
    assert.ok(!joinsEqual(zoo, 32 + 64));
  }));

/** A pipeline whose transformer's weights are rounded to bfloat16, and kept as such or as float32. */
async function copyOf(golden: string, folder: string, isHalf: boolean): Promise<void> {
  for (const part of Deno.readDirSync(golden)) {
    if (part.name === "transformer") continue;
    await Deno.mkdir(folder, { recursive: true });
    await Deno.symlink(join(golden, part.name), join(folder, part.name));
  }
  const at = (root: string, file: string) => join(root, "transformer", file);
  await Deno.mkdir(join(folder, "transformer"));
  await Deno.copyFile(at(golden, "config.json"), at(folder, "config.json"));
  const file = "diffusion_pytorch_model.safetensors";
  const source = openSafetensors(at(golden, file));
  const dtype = isHalf ? "bfloat16" : "float32";
  await copyToSafetensors(at(folder, file), {
    tensors: new Map([...source.tensors].map(([name, { shape }]) => [name, { dtype, shape }])),
    read: async (name) => {
      const { data, shape } = await source.readFloat32(name);
      const bits = float32ToBfloat16(data);
      return isHalf
        ? { dtype: "bfloat16", shape, data: bits }
        : float32(bfloat16ToFloat32(bits), shape);
    },
  }, {});
}
