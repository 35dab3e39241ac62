import assert from "node:assert/strict";
import { float32, int64, type Tensor, type TensorOf } from "../../autodiff/mod.ts";
import {
  decodeGraph,
  decodeVjpGraph,
  type Pipeline,
  readPipeline,
  textGraphs,
  unetGraph,
  unetModules,
  unetVjpGraph,
} from "../../models/diffusers/mod.ts";
import { loraChanges } from "../../models/lora/mod.ts";
import type { Engine, Tensors } from "../../runtime/mod.ts";
import {
  assertClose,
  float,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
  withPrefix,
} from "./support.ts";

// PyTorch in float32 is 2e-6 (values) and 6e-6 (gradients) off these.
const VALUES = 1e-5;
const GRADIENTS = 3e-5;

/** What of case.json this test reads. */
interface Case {
  readonly pipeline: string;
  readonly guidance_scale: number;
  readonly uncond: "empty" | "zeros";
  readonly lora: { readonly r: number; readonly alpha: number; readonly targets: string[] };
  readonly timesteps: readonly number[];
  readonly train_indices: readonly number[];
  readonly coefficients: Readonly<Record<string, number[]>>;
  readonly input_ids: readonly (readonly number[][])[];
  readonly uncond_ids: readonly (readonly number[][])[];
}

function join(parts: readonly TensorOf<"float32">[], axis: 0 | 2): TensorOf<"float32"> {
  const [first] = parts;
  assert.ok(first);
  const shape = [...first.shape];
  shape[axis] = parts.reduce((n, p) => n + (p.shape[axis] ?? 0), 0);
  const rows = axis === 0 ? 1 : (shape[0] ?? 1) * (shape[1] ?? 1);
  const out = new Float32Array(shape.reduce((a, b) => a * b));
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (const { data } of parts) {
      const width = data.length / rows;
      out.set(data.subarray(row * width, (row + 1) * width), at);
      at += width;
    }
  }
  return float32(out, shape);
}

const scaled = (x: TensorOf<"float32">, factor: number) =>
  float32(x.data.map((v) => v * factor), x.shape);

/** States and pooled embedding of token ids, one list for each text encoder. */
async function encode(
  engine: Engine,
  pipeline: Pipeline,
  ids: readonly (readonly number[][])[],
): Promise<{ readonly states: TensorOf<"float32">; readonly pooled: Tensor | undefined }> {
  const states: TensorOf<"float32">[] = [];
  let pooled: Tensor | undefined;
  const [rows = []] = ids;
  const size = { batch: rows.length, tokens: rows[0]?.length ?? 0 };
  for (const [i, graph] of textGraphs(pipeline, size).entries()) {
    const flat = (ids[i] ?? []).flat().map(BigInt);
    const input_ids = int64(BigInt64Array.from(flat), [size.batch, size.tokens]);
    const out = await runOnce(engine, graph, { input_ids });
    states.push(float(out, "states"));
    pooled = out.pooled;
  }
  return { states: join(states, 2), pooled };
}

/** d x0 / d eps of every step, inputs detached: closed_form of the reference, without early stop. */
function kappas({ coefficients: c, timesteps }: Case): number[] {
  const n = timesteps.length;
  const at = (name: string, i: number) => c[name]?.[i] ?? 0;
  const kappa = new Array<number>(n).fill(0);
  let [u1, u2] = [1, 0];
  for (let i = n - 1; i >= 0; i--) {
    if (c.b !== undefined) {
      kappa[i] = at("b", i) * u1;
      u1 *= at("a", i);
      continue;
    }
    const v = at("P", i) * u1 + (i + 1 < n ? at("Q", i + 1) * u2 : 0);
    kappa[i] = -at("sg", i) / at("al", i) * v;
    [u1, u2] = [at("A", i) * u1 + v / at("al", i), u1];
  }
  return kappa;
}

// Full sampling with the input stop-gradient: every eps is known, and gradients are a sum of products.
for (const name of ["drtune_ddpm_full", "drtune_ddpm_nocfg", "xl_drtune_dpmpp2m_full"]) {
  Deno.test(`${name}: text states, eps, image and LoRA gradients are PyTorch's`, () =>
    withEngine(async (engine) => {
      const folder = `tests/golden/cases/${name}`;
      const facts: Case = JSON.parse(
        await Deno.readTextFile(repositoryPath(`${folder}/case.json`)),
      );
      const inputs = readTensors(`${folder}/inputs.safetensors`);
      const expected = readTensors(`${folder}/expected.safetensors`);
      const pipeline = await readPipeline(repositoryPath(`tests/golden/${facts.pipeline}`));
      const xl = pipeline.kind === "sdxl";
      const guidance = facts.guidance_scale;

      const conditional = await encode(engine, pipeline, facts.input_ids);
      const close = (actual: Tensor | undefined, what: string) => {
        const value = expected[what];
        assert.ok(value, what);
        assertClose(actual, value, { tolerance: VALUES, what });
      };
      close(conditional.states, "prompt_embeds");
      if (facts.uncond === "empty") {
        const unconditional = await encode(engine, pipeline, facts.uncond_ids);
        close(unconditional.states, "uncond_embeds");
      }
      if (xl) close(conditional.pooled, "pooled");

      // The unconditional branch first.
      const branches = guidance === 1 ? [1] : [1 - guidance, guidance];
      const both = (unconditional: string, conditional: string) =>
        branches.length === 1
          ? float(expected, conditional)
          : join([float(expected, unconditional), float(expected, conditional)], 0);
      const twice = (x: TensorOf<"float32">) => join(branches.map(() => x), 0);
      const lora = { rank: facts.lora.r, alpha: facts.lora.alpha, targets: facts.lora.targets };
      const [, , height = 0, width = 0] = float(inputs, "x_T").shape;
      const changes = loraChanges(unetModules(pipeline.unet), lora);
      const size = { batch: branches.length, height, width, tokens: 77, changes };
      const feeds = (i: number): Tensors => ({
        ...withPrefix(inputs, "lora."),
        sample: twice(float(expected, `x.${i}`)),
        timestep: twice(float32([facts.timesteps[i] ?? 0])),
        encoder_hidden_states: both("uncond_embeds", "prompt_embeds"),
        ...(xl && {
          text_embeds: both("uncond_pooled", "pooled"),
          time_ids: both("time_ids", "time_ids"),
        }),
      });
      const guided = (prediction: TensorOf<"float32">, shape: readonly number[]) => {
        const n = prediction.data.length / branches.length;
        return float32(
          Float32Array.from(
            { length: n },
            (_, k) => branches.reduce((v, w, j) => v + w * (prediction.data[j * n + k] ?? 0), 0),
          ),
          shape,
        );
      };
      const unet = await engine.load(unetGraph(pipeline.unet, size));
      for (const i of [0, facts.timesteps.length - 1]) {
        const { shape } = float(expected, `eps.${i}`);
        close(guided(float(await unet.run(feeds(i)), "prediction"), shape), `eps.${i}`);
      }

      const latents = float(expected, "x0");
      const decoder = { batch: 1, height, width };
      const decoded = await runOnce(engine, decodeGraph(pipeline.vae, decoder), { latents });
      close(decoded.image, "image");
      const cotangent = float(inputs, "image_grad");
      const back = await runOnce(engine, decodeVjpGraph(pipeline.vae, decoder), {
        latents,
        cotangent,
      });
      const arriving = float(back, "grad.latents");

      const vjp = await engine.load(unetVjpGraph(pipeline.unet, size));
      const kappa = kappas(facts);
      const total = new Map<string, Float32Array>();
      for (const i of facts.train_indices) {
        const cotangent = join(branches.map((w) => scaled(arriving, w * (kappa[i] ?? 0))), 0);
        const products = await vjp.run({ ...feeds(i), cotangent });
        for (const what of Object.keys(products)) {
          const sum = total.get(what);
          total.set(what, float(products, what).data.map((v, k) => v + (sum?.[k] ?? 0)));
        }
      }
      const gradients = withPrefix(expected, "grad.");
      assert.equal(total.size, Object.keys(gradients).length + 1);
      for (const [what, value] of Object.entries(gradients)) {
        const data = total.get(`grad.${what}`);
        assert.ok(data, what);
        assertClose(float32(data, value.shape), value, { tolerance: GRADIENTS, what });
      }
    }));
}
