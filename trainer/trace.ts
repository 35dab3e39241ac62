import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { float32 } from "../autodiff/mod.ts";
import { readPipeline } from "../models/diffusers/mod.ts";
import { readTextToImage } from "../models/flow/mod.ts";
import { openSafetensors } from "../models/weights/mod.ts";
import type { Engine, SessionOptions } from "../runtime/mod.ts";
import { checkDrawn } from "./_check_drawn.ts";
import { FieldError } from "./errors.ts";
import {
  checkFlowInputs,
  type FlowCase,
  flowCaseSchema,
  flowTextOptions,
  isFlowCase,
  traceFlow,
} from "./flow_trace.ts";
import { METHOD_NAMES } from "./methods/mod.ts";
import { type MemoryLimits, type Model, openPipeline } from "./model/mod.ts";
import { parseConfig } from "./parse_config.ts";
import { makeSampler, type SamplerKind, schedulerConfigSchema } from "./samplers/mod.ts";
import { type RewardSource, trainBatch } from "./batch/mod.ts";
import { type Float32Tensor, type Parameters, sliceBatch } from "./tensors.ts";

const step = z.int().min(0);
const diffusionCaseSchema = z.looseObject({
  pipeline: z.string(),
  method: z.enum(METHOD_NAMES),
  T: z.int().min(1),
  train_steps: z.array(step),
  t_min: step,
  input_stopgrad: z.boolean(),
  redraws: step.default(0),
  guidance_scale: z.number(),
  prompts: z.array(z.string()).min(1),
  uncond: z.enum(["empty", "zeros"]),
  upstream: z.union([z.literal("image_grad"), z.templateLiteral(["reward:", z.string()])]),
  lora: z.strictObject({ r: z.int().min(1), alpha: z.number(), targets: z.array(z.string()) }),
  scheduler: z.strictObject({
    kind: z.enum(["ddpm", "ddim", "dpmpp2m"]),
    eta: z.number(),
    config: schedulerConfigSchema,
  }),
}).superRefine(({ T, train_steps: steps, t_min: tMin }, context) => {
  const wrong = steps.findIndex((t) => t < 1 || t > T);
  const issue = (path: (string | number)[], input: number, low: number) =>
    context.addIssue({ code: "custom", path, input, message: `expected ${low} to ${T}, as T is` });
  if (wrong >= 0) issue(["train_steps", wrong], steps[wrong] ?? 0, 1);
  if (tMin > T) issue(["t_min"], tMin, 0);
});

/** A case of a model with discrete betas. */
export type DiffusionCase = z.output<typeof diffusionCaseSchema>;

/** A training step with everything random given, as the golden cases have it. */
export interface TraceCase {
  /** Folder of the diffusers pipeline. */
  readonly pipeline: string;
  readonly spec: DiffusionCase | FlowCase;
  readonly inputs: Parameters;
}

/** A model that a case is replayed on. */
export type TraceModel = Model;

/** Reads `case.json` and `inputs.safetensors` of a case's folder. Throws `FieldError` or `WeightsError`. */
export async function readTraceCase(folder: string): Promise<TraceCase> {
  const file = join(folder, "case.json");
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new Error(`Case ${file} cannot be read as JSON`, { cause });
  }
  const isFlow = isFlowCase(value);
  const spec = isFlow
    ? parseConfig(flowCaseSchema, value, { file })
    : parseConfig(diffusionCaseSchema, value, { file });
  const inputs: Record<string, Float32Tensor> = {};
  const source = openSafetensors(join(folder, "inputs.safetensors"));
  for (const name of source.tensors.keys()) inputs[name] = await source.readFloat32(name);
  if (isFlowCase(spec)) checkFlowInputs(inputs, spec, { file: source.path });
  else checkInputs(inputs, spec, { file: source.path });
  return { pipeline: join(folder, "..", "..", spec.pipeline), spec, inputs };
}

/** What is drawn at random must have a row for every prompt and step, and be finite. */
function checkInputs(
  inputs: Parameters,
  { T, prompts, redraws }: DiffusionCase,
  options: { readonly file: string },
): void {
  const size = inputs.x_T?.shape.slice(1) ?? [];
  const expected = {
    x_T: [prompts.length, ...(size.length === 3 ? size : ["channels", "height", "width"])],
    noise: [T, prompts.length, ...size],
    redraw_noise: [redraws, prompts.length, ...size],
    image_grad: [prompts.length, 3, "height", "width"],
  };
  checkDrawn(inputs, expected, options);
}

/** The model of a case. */
export async function openTraceModel(
  { pipeline: folder, spec }: TraceCase,
  engine: Engine,
  options: { readonly session?: SessionOptions; readonly limits?: MemoryLimits } = {},
): Promise<TraceModel> {
  const { r: rank, alpha } = spec.lora;
  if (isFlowCase(spec)) {
    const lora = { rank, alpha, targets: spec.lora.modules };
    const pipeline = await readTextToImage(folder);
    return openPipeline(pipeline, engine, { ...options, lora, text: flowTextOptions(spec) });
  }
  const lora = { rank, alpha, targets: spec.lora.targets };
  const pipeline = await readPipeline(folder);
  return openPipeline(
    { ...pipeline, forceZerosForEmptyPrompt: spec.uncond === "zeros" },
    engine,
    { ...options, lora },
  );
}

/**
 * Replays a case and returns every tensor of its `expected.safetensors` by name: prompt embeddings, "x.i" and "eps.i",
 * "x0", "latents_last", "image", "grad.<parameter>", and for redraws their parts. `upstream` gives d loss / d images
 * where the case names a reward ("reward:symmetry": the gradient of the summed scores).
 */
export async function trace(
  { spec, inputs }: TraceCase,
  model: TraceModel,
  options: {
    readonly upstream?: (images: Float32Tensor, reward: string) => Promise<Float32Tensor>;
  } = {},
): Promise<Parameters> {
  return isFlowCase(spec)
    ? await traceFlow(spec, { inputs, model, ...options })
    : await traceDiffusion(spec, { inputs, model, ...options });
}

async function traceDiffusion(
  spec: DiffusionCase,
  { inputs, model, upstream }: {
    readonly inputs: Parameters;
    readonly model: TraceModel;
    readonly upstream?: (images: Float32Tensor, reward: string) => Promise<Float32Tensor>;
  },
): Promise<Parameters> {
  const input = (name: string) => {
    const tensor = inputs[name];
    if (tensor === undefined) throw new FieldError(name, "is missing in inputs.safetensors");
    return tensor;
  };
  const { T, prompts, scheduler: { kind, eta, config }, t_min: tMin } = spec;
  const kinds = { ddpm: "ddpm", ddim: "ddim", dpmpp2m: "dpmsolver++" } as const satisfies Record<
    string,
    SamplerKind
  >;
  const sampler = makeSampler({ kind: kinds[kind], steps: T, eta }, config);
  const row = (name: string, i: number) => sliceBatch(input(name), i, i + 1).data;
  const reward: RewardSource = {
    async evaluate(images) {
      const gradient = spec.upstream === "image_grad"
        ? input("image_grad")
        : await upstream?.(images, spec.upstream.slice("reward:".length));
      if (gradient !== undefined) return { loss: 0, gradient, rewards: {} };
      throw new FieldError("upstream", `is "${spec.upstream}", expected a reward to be given`);
    },
  };

  const lora = Object.fromEntries(
    Object.entries(inputs).flatMap(([name, tensor]) =>
      name.startsWith("lora.") ? [[name.slice("lora.".length), tensor]] : []
    ),
  );
  const [, , height = 1, width = 1] = input("x_T").shape;
  const { conditional, unconditional } = await model.prompts.encode(prompts, { height, width });
  const seen: Record<string, Float32Tensor> = {};
  const denoiser = await model.adapt(lora);
  const { gradients } = await trainBatch({
    prompts: model.prompts,
    decoder: model.decoder,
    denoiser,
  }, {
    sampler,
    selection: {
      trainSteps: spec.train_steps,
      tMin,
      inputStopGradient: spec.input_stopgrad || spec.method === "drtune",
      redraws: spec.redraws,
    },
    guidance: { scale: spec.guidance_scale, gradient: "both" },
    prompts,
    noise: {
      initial: () => input("x_T"),
      step: (i) => row("noise", i),
      redraw: (j) => row("redraw_noise", j),
    },
    reward,
    probe: (name, tensor) => seen[name] = tensor,
  }).finally(() => denoiser.release());

  const steps = tMin === 0 ? T : T - tMin + 1;
  // Long cases keep the states of four steps.
  const kept = T <= 12 ? undefined : new Set([0, 1, steps >> 1, steps - 1].map(String));
  const wanted = (name: string) => {
    const [kind = "", index = ""] = name.split(".");
    if (kind === "x" || kind === "eps") return kept?.has(index) ?? true;
    return !name.endsWith("_grad") && (kind !== "grad_main" || spec.redraws > 0);
  };
  const out = Object.fromEntries(Object.entries(seen).filter(([name]) => wanted(name)));
  const last = seen[tMin === 0 ? "x0" : `x.${steps - 1}`];
  if (last !== undefined) out.latents_last = last;
  const names = {
    prompt_embeds: conditional.encoder_hidden_states,
    uncond_embeds: unconditional.encoder_hidden_states,
    pooled: conditional.text_embeds,
    uncond_pooled: unconditional.text_embeds,
    time_ids: conditional.time_ids,
  };
  for (const [name, tensor] of Object.entries(names)) if (tensor !== undefined) out[name] = tensor;
  for (const [name, { data, shape }] of Object.entries(lora)) {
    out[`grad.${name}`] = gradients[name] ?? float32(new Float32Array(data.length), shape);
  }
  return out;
}
