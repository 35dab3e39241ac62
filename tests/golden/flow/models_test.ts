import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { float32, type TensorOf } from "../../../autodiff/mod.ts";
import { readFlowPipeline } from "../../../models/flow/mod.ts";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { FlowModel, type FlowModelOptions } from "../../../trainer/model/mod.ts";
import { assertClose, repositoryPath, withEngine } from "../../models/mod.ts";
import { z } from "zod";

/*
 * The networks alone against PyTorch in float64: at the states of the expected trajectories, not of one's own, so that
 * nothing but the models is measured. Each case's gradient is put together by its closed form from the file.
 */

type Float32Tensor = TensorOf<"float32">;
type Parameters = Readonly<Record<string, Float32Tensor>>;

/** Of the largest value. */
const TOLERANCE = 1e-4;
/** Of a tensor's own largest value, and of the set's. */
const [GRADIENT, GRADIENT_SET] = [1e-3, 1e-6];

const schema = z.looseObject({
  pipeline: z.string(),
  method: z.string(),
  family: z.string(),
  prompts: z.array(z.string()),
  negative_prompts: z.array(z.string()).optional(),
  guidance_scale: z.number(),
  true_cfg: z.boolean(),
  cfg_grad: z.enum(["both", "cond"]).nullish(),
  max_sequence_length: z.int(),
  text_layers: z.array(z.int()).optional(),
  timesteps: z.array(z.number()),
  kappa: z.array(z.number()).nullable(),
  pre: z.array(z.int()).nullish(),
  nest: z.number().nullish(),
  j: z.int().optional(),
  lora: z.looseObject({ r: z.int(), alpha: z.number(), modules: z.array(z.string()) }),
});

async function tensorsOf(file: string): Promise<Parameters> {
  const source = openSafetensors(file);
  const all: Record<string, Float32Tensor> = {};
  for (const name of source.tensors.keys()) all[name] = await source.readFloat32(name);
  return all;
}

const times = ({ data, shape }: Float32Tensor, factor: number): Float32Tensor =>
  float32(data.map((v) => v * factor), shape);

async function check(
  folder: string,
  options: Pick<FlowModelOptions, "limits"> = {},
): Promise<void> {
  const spec = schema.parse(JSON.parse(readFileSync(join(folder, "case.json"), "utf8")));
  const given = await tensorsOf(join(folder, "inputs.safetensors"));
  const expected = await tensorsOf(join(folder, "expected.safetensors"));
  const of = (tensors: Parameters, name: string): Float32Tensor => {
    const found = tensors[name];
    assert.ok(found, name);
    return found;
  };
  const want = (name: string) => of(expected, name);
  const close = (actual: Float32Tensor | undefined, name: string) =>
    assertClose(actual, want(name), { tolerance: TOLERANCE, what: name });
  await withEngine(async (engine) => {
    const pipeline = await readFlowPipeline(join(folder, "..", "..", spec.pipeline));
    const { r: rank, alpha, modules: targets } = spec.lora;
    const model = new FlowModel(pipeline, engine, {
      ...options,
      lora: { rank, alpha, targets },
      session: { intraOpNumThreads: 1 },
      text: { maxSequenceLength: spec.max_sequence_length, layers: spec.text_layers },
    });
    const [batch = 1, , height = 1, width = 1] = of(given, "x_T").shape;
    const { conditional, unconditional } = await model.prompts.encode(spec.prompts, {
      height,
      width,
      negative: spec.negative_prompts,
      embeddedGuidance: spec.guidance_scale,
    });
    for (
      const [name, conditioning] of [["prompt", conditional], ["uncond", unconditional]] as const
    ) {
      const states = conditioning.encoder_hidden_states;
      const pooled = name === "prompt" ? "pooled" : "uncond_pooled";
      if (expected[`${name}_embeds`] !== undefined) close(states, `${name}_embeds`);
      if (expected[pooled] !== undefined) close(conditioning.pooled_projections, pooled);
      // Captions of lengths of their own, filled up with zeros.
      for (let i = 0; expected[`${name}_embeds.${i}`] !== undefined; i++) {
        const own = want(`${name}_embeds.${i}`);
        const row = (states?.data.length ?? 0) / batch;
        const found = states?.data.slice(i * row, i * row + own.data.length);
        close(float32(found ?? [], own.shape), `${name}_embeds.${i}`);
      }
    }
    const lora = Object.fromEntries(
      Object.entries(given).flatMap(([name, t]) =>
        name.startsWith("lora.") ? [[name.slice("lora.".length), t]] : []
      ),
    );
    const denoiser = await model.adapt(lora);
    const branches = spec.true_cfg ? [unconditional, conditional] : [conditional];
    const rowsAt = (i: number) => ({
      x: want(`x.${i}`),
      timesteps: new Array<number>(batch).fill(spec.timesteps[i] ?? NaN),
      branches,
    });
    const velocities = await denoiser.predict(rowsAt(0));
    if (spec.true_cfg) {
      close(velocities[0], "v_uncond");
      close(velocities[1], "v_cond");
    } else close(velocities[0], "v.0");

    close(await model.decoder.decode(want("x0")), "image");
    const gradient = of(given, "image_grad");
    const each = gradient.data.length / batch;
    const weights = expected.w_sim?.data;
    const weighted = gradient.data.map((g, i) => g * (weights?.[Math.floor(i / each)] ?? 1));
    close(await model.decoder.vjp(want("x0"), float32(weighted, gradient.shape)), "g0");

    const weight = spec.guidance_scale + (spec.family === "zimage" ? 1 : 0);
    const uncond = spec.cfg_grad === "cond" ? 0 : 1 - weight;
    const cotangents = (g: Float32Tensor, factor: number) =>
      (spec.true_cfg ? [uncond, weight] : [1]).map((w) => times(g, w * factor));
    let first = want("g0");
    const nest = spec.nest ?? 0;
    if (nest !== 0) {
      const rows = rowsAt(spec.j ?? NaN);
      const { x } = await denoiser.vjp(rows, cotangents(want("g0"), 1), { input: true });
      close(x, "jtg");
      const through = want("jtg").data;
      first = float32(first.data.map((g, i) => g + nest * (through[i] ?? NaN)), first.shape);
    }
    if (spec.kappa != null && spec.method !== "draft-lv") {
      const sum: Record<string, Float64Array> = {};
      for (const [i, kappa] of spec.kappa.entries()) {
        if (kappa === 0) continue;
        const g = spec.pre?.includes(i) ? first : want("g0");
        const { parameters } = await denoiser.vjp(rowsAt(i), cotangents(g, kappa), {
          input: false,
        });
        for (const [name, { data }] of Object.entries(parameters)) {
          const total = sum[name] ??= new Float64Array(data.length);
          for (const [k, v] of data.entries()) total[k] = (total[k] ?? 0) + v;
        }
      }
      checkGradients(sum, expected);
    }
    await denoiser.release();
    await model.dispose();
  });
}

function checkGradients(sum: Readonly<Record<string, Float64Array>>, expected: Parameters): void {
  const wanted = Object.entries(expected).flatMap(([name, t]) =>
    name.startsWith("grad.") ? [[name.slice("grad.".length), t] as const] : []
  );
  const largest = ({ data }: Float32Tensor) => data.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  const top = Math.max(...wanted.map(([, t]) => largest(t)));
  assert.ok(top > 0);
  for (const [name, t] of wanted) {
    const own = largest(t);
    const found = sum[name];
    assert.equal(found?.length, t.data.length, name);
    const limit = own === 0 ? 0 : GRADIENT * own + GRADIENT_SET * top;
    t.data.forEach((v, i) => {
      const apart = Math.abs(v - (found?.[i] ?? NaN));
      assert.ok(apart <= limit, `${name}[${i}] is ${apart / top} of the largest gradient off`);
    });
  }
}

const OWN = repositoryPath("tests/golden/flow/cases");
for (const name of readdirSync(OWN).sort()) {
  Deno.test(`the networks of ${name} are PyTorch's`, () => check(join(OWN, name)));
}

for (const name of ["sd3_bridge", "flux_leapalign", "flux2_lagrange", "zimage_drtune_early"]) {
  Deno.test(`in pieces, row by row, the networks of ${name} are PyTorch's too`, () =>
    check(join(OWN, name), {
      limits: { memory: 1, forward: 1, products: 1, decode: 1, decodeProducts: 1 },
    }));
}

const ALL = repositoryPath("../shared/golden-flow/cases");
const isThere = statSync(ALL, { throwIfNoEntry: false }) !== undefined;
Deno.test({
  name: "the networks of all cases handed over are PyTorch's",
  ignore: !isThere,
  async fn(t) {
    const own = new Set(readdirSync(OWN));
    for (const name of readdirSync(ALL).sort()) {
      if (own.has(name) || !statSync(join(ALL, name)).isDirectory()) continue;
      await t.step(name, () => check(join(ALL, name)));
    }
  },
});
