import { z } from "zod";
import { float32 } from "../autodiff/mod.ts";
import { checkDrawn } from "./_check_drawn.ts";
import { FieldError } from "./errors.ts";
import { type StepSelection, straightThroughSelection } from "./methods/mod.ts";
import type { FlowTextOptions, Model } from "./model/mod.ts";
import {
  FLOW_FAMILIES,
  flowEuler,
  flowSchedulerConfigSchema,
  pipelineSigmas,
  type Sampler,
  SIGMA_RANGES,
} from "./samplers/mod.ts";
import { type RewardSource, trainBatch } from "./batch/mod.ts";
import { type Float32Tensor, type Parameters, sliceBatch } from "./tensors.ts";

const index = z.int().min(0);
const indices = z.array(index);
const share = z.number().min(0).max(1);

/** A case's own fields; steps are indices in sampling order, 0 the noisiest. */
export const flowCaseSchema = z.looseObject({
  pipeline: z.string(),
  family: z.enum(FLOW_FAMILIES),
  method: z.enum([
    "refl",
    "draft-k",
    "draft-lv",
    "drtune",
    "alignprop",
    "leapalign",
    "flowbp-sparse",
    "flowbp-bridge",
    "flowbp-lagrange",
  ]),
  T: z.int().min(1),
  prompts: z.array(z.string()).min(1),
  negative_prompts: z.array(z.string()).nullish(),
  latent_hw: z.tuple([z.int().min(2), z.int().min(2)]),
  guidance_scale: z.number(),
  true_cfg: z.boolean(),
  cfg_grad: z.enum(["both", "cond"]).default("both"),
  max_sequence_length: z.int().min(1).nullish(),
  text_layers: indices.nullish(),
  upstream: z.union([z.literal("image_grad"), z.templateLiteral(["reward:", z.string()])]),
  lora: z.looseObject({
    r: z.int().min(1),
    alpha: z.number(),
    modules: z.array(z.string()).min(1),
  }),
  scheduler: z.looseObject({
    kind: z.literal("flow_euler"),
    config: z.record(z.string(), z.unknown()),
    sigmas: z.union([z.enum(SIGMA_RANGES), z.array(z.number())]).default("scheduler"),
    mu: z.union([z.literal("pipeline"), z.number()]).nullish(),
  }),
  redraws: index.default(0),
  stop: index.nullish(),
  train_indices: indices.optional(),
  K: z.int().min(1).optional(),
  k: index.optional(),
  j: index.optional(),
  active: indices.optional(),
  pre_active: indices.optional(),
  post_active: indices.optional(),
  window: z.tuple([index, index]).nullish(),
  alpha: share.default(1),
  tau: z.number().min(0).nullish(),
  grad_rescale: share.default(0),
  order: z.int().min(1).default(1),
  support_mode: z.enum(["none", "start", "midpoint", "all"]).default("start"),
  support_scale: z.number().default(1),
  max_active: index.nullish(),
  weight_scheme: z.enum(["lagrange", "uniform"]).default("lagrange"),
  anchor_lambda: share.default(1),
}).superRefine((c, context) => {
  const needs = NEEDS[c.method].find((field) => c[field] === undefined || c[field] === null);
  if (needs !== undefined) {
    context.addIssue({
      code: "custom",
      path: [needs],
      input: c[needs],
      message: `expected a value with method ${c.method}`,
    });
  }
  for (const field of STEPS) {
    const values = [c[field] ?? []].flat();
    const beyond = values.find((i) => i >= c.T);
    if (beyond === undefined) continue;
    context.addIssue({
      code: "custom",
      path: [field],
      input: beyond,
      message: `expected 0 to ${c.T - 1}, as T is`,
    });
  }
});

const STEPS = ["stop", "train_indices", "k", "j", "active", "pre_active", "post_active"] as const;

/** What each method draws. */
const NEEDS = {
  refl: ["stop"],
  drtune: ["train_indices"],
  "draft-k": ["K"],
  alignprop: ["K"],
  "draft-lv": [],
  leapalign: ["k", "j"],
  "flowbp-sparse": ["active"],
  "flowbp-bridge": ["j", "pre_active", "post_active"],
  "flowbp-lagrange": ["k", "j"],
} as const;

/** A training step of a flow-matching model with everything random given. */
export type FlowCase = z.output<typeof flowCaseSchema>;

/** Whether a case is one of a flow. */
export function isFlowCase<T>(value: T): value is T & FlowCase {
  const scheduler = z.looseObject({ scheduler: z.looseObject({ kind: z.literal("flow_euler") }) });
  return scheduler.safeParse(value).success;
}

/** How a case's prompts are encoded. */
export function flowTextOptions(spec: FlowCase): FlowTextOptions {
  return {
    ...(spec.max_sequence_length && { maxSequenceLength: spec.max_sequence_length }),
    ...(spec.text_layers && { layers: spec.text_layers }),
  };
}

/** What is drawn at random must have the latents' shape, and be finite. */
export function checkFlowInputs(
  inputs: Parameters,
  { prompts, redraws }: FlowCase,
  options: { readonly file: string },
): void {
  const size = inputs.x_T?.shape.slice(1) ?? [];
  const expected = {
    x_T: [prompts.length, ...(size.length === 3 ? size : ["channels", "height", "width"])],
    redraw_noise: [redraws, prompts.length, ...size],
    image_grad: [prompts.length, 3, "height", "width"],
  };
  checkDrawn(inputs, expected, options);
}

/** The levels that a case asks for. */
export function flowCaseSampler(spec: FlowCase): Sampler {
  const { T: steps, family, latent_hw: [height, width], scheduler } = spec;
  // Cases of Stable Diffusion 3 that shift dynamically and name no top have the pipeline's, not the scheduler's.
  const config = flowSchedulerConfigSchema.parse(
    family === "sd3" ? { max_shift: 1.16, ...scheduler.config } : scheduler.config,
  );
  const tokens = Math.floor(height / 2) * Math.floor(width / 2);
  const mu = scheduler.mu === "pipeline"
    ? pipelineSigmas({ ...config, family, tokens }, { steps }).mu
    : scheduler.mu ?? undefined;
  return flowEuler(config, { steps, sigmas: scheduler.sigmas, mu });
}

/** What a case trains. */
export function flowCaseSelection(spec: FlowCase): StepSelection {
  const { T, method, redraws, stop, K = 1, k, j } = spec;
  const last = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
  const sampled = { tMin: 0, inputStopGradient: false, redraws };
  const [first, end] = spec.window ?? [0, T];
  const parameters = {
    T,
    first,
    last: end - 1,
    alpha: spec.alpha,
    rescale: spec.grad_rescale,
    ...(spec.tau && { tau: spec.tau }),
  };
  switch (method) {
    case "refl":
      return { ...sampled, trainSteps: [T - (stop ?? 0)], tMin: T - (stop ?? 0) };
    case "drtune":
      return {
        ...sampled,
        trainSteps: (spec.train_indices ?? []).map((i) => T - i),
        tMin: stop === undefined || stop === null ? 0 : T - stop,
        inputStopGradient: true,
      };
    case "draft-k":
    case "alignprop":
      return { ...sampled, trainSteps: last(K) };
    case "draft-lv":
      return { ...sampled, trainSteps: last(1) };
    case "flowbp-sparse":
      return straightThroughSelection({ active: spec.active ?? [] }, parameters);
    case "flowbp-bridge":
      return straightThroughSelection({
        active: [...spec.pre_active ?? [], ...spec.post_active ?? []],
        ...(j !== undefined && { j }),
      }, parameters);
    case "leapalign":
    case "flowbp-lagrange":
      return straightThroughSelection({
        ...(k !== undefined && { k }),
        ...(j !== undefined && { j }),
      }, {
        ...parameters,
        ...(method === "flowbp-lagrange" && {
          order: spec.order,
          weights: spec.weight_scheme,
          supports: spec.support_mode === "none" ? "start" : spec.support_mode,
          supportScale: spec.support_scale,
          anchor: spec.anchor_lambda,
          maxActive: spec.support_mode === "none" ? 0 : spec.max_active || Infinity,
        }),
      });
  }
}

/** Replays a case and returns every tensor of its `expected.safetensors` by name. */
export async function traceFlow(
  spec: FlowCase,
  { inputs, model, upstream }: {
    readonly inputs: Parameters;
    readonly model: Model;
    readonly upstream?: (images: Float32Tensor, reward: string) => Promise<Float32Tensor>;
  },
): Promise<Parameters> {
  const input = (name: string) => {
    const tensor = inputs[name];
    if (tensor === undefined) throw new FieldError(name, "is missing in inputs.safetensors");
    return tensor;
  };
  const { T, prompts, redraws, family, true_cfg: isGuided } = spec;
  const selection = flowCaseSelection(spec);
  const negativePrompts = prompts.map((_, i) => spec.negative_prompts?.[i] ?? "");
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
  const off = family === "zimage" ? 0 : 1;
  const scale = isGuided || family === "flux" ? spec.guidance_scale : off;
  const seen: Record<string, Float32Tensor> = {};
  const denoiser = await model.adapt(lora);
  const { gradients } = await trainBatch({
    prompts: model.prompts,
    decoder: model.decoder,
    denoiser,
  }, {
    sampler: flowCaseSampler(spec),
    selection,
    guidance: { scale, gradient: spec.cfg_grad === "cond" ? "conditional" : "both" },
    prompts,
    negativePrompts,
    noise: {
      initial: () => input("x_T"),
      step: (i) => {
        throw new FieldError(
          "scheduler",
          `draws noise at step ${i}, expected levels without noise`,
        );
      },
      redraw: (j) => sliceBatch(input("redraw_noise"), j, j + 1).data,
    },
    reward,
    probe: (name, tensor) => seen[name] = tensor,
  }).finally(() => denoiser.release());

  const steps = selection.tMin === 0 ? T : T - selection.tMin + 1;
  // Long cases keep the states of four steps.
  const kept = T <= 12 ? undefined : new Set([0, 1, steps >> 1, steps - 1].map(String));
  const wanted = (name: string) => {
    const [kind = "", at = ""] = name.split(".");
    if (kind === "x" || kind === "v") return kept?.has(at) ?? true;
    return !name.endsWith("_grad") && (kind !== "grad_main" || redraws > 0);
  };
  const out = Object.fromEntries(Object.entries(seen).filter(([name]) => wanted(name)));
  const named = {
    latents_last: seen[selection.tMin === 0 ? "x0" : `x.${steps - 1}`],
    g0: seen.x0_grad,
  };
  for (const [name, tensor] of Object.entries(named)) if (tensor !== undefined) out[name] = tensor;
  Object.assign(out, await encoded(spec, { model, negativePrompts }));
  for (const [name, { data, shape }] of Object.entries(lora)) {
    out[`grad.${name}`] = gradients[name] ?? float32(new Float32Array(data.length), shape);
  }
  return out;
}

/** Prompt embeddings by the names of the cases: Z-Image's, which differ in length, one by one. */
async function encoded(
  { family, prompts, latent_hw: [height, width], true_cfg: isGuided }: FlowCase,
  { model, negativePrompts }: {
    readonly model: Model;
    readonly negativePrompts: readonly string[];
  },
): Promise<Parameters> {
  const out: Record<string, Float32Tensor> = {};
  const encode = async (texts: readonly string[], negative: readonly string[], suffix: string) => {
    const { conditional, unconditional } = await model.prompts.encode(texts, {
      height,
      width,
      negative,
    });
    const names = {
      prompt_embeds: conditional.encoder_hidden_states,
      pooled: conditional.pooled_projections,
      ...(isGuided && {
        uncond_embeds: unconditional.encoder_hidden_states,
        uncond_pooled: unconditional.pooled_projections,
      }),
    };
    for (const [name, tensor] of Object.entries(names)) {
      if (tensor !== undefined) out[name + suffix] = tensor;
    }
  };
  if (family !== "zimage") {
    await encode(prompts, negativePrompts, "");
    return out;
  }
  for (const [i, prompt] of prompts.entries()) {
    await encode([prompt], [negativePrompts[i] ?? ""], `.${i}`);
  }
  for (const [name, { data, shape }] of Object.entries(out)) {
    if (shape.length === 3) out[name] = float32(data, shape.slice(1));
  }
  return out;
}
