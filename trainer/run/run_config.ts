import { z } from "zod";
import { cut } from "../../base/mod.ts";
import { PRECISIONS } from "../../compile/mod.ts";
import { FieldError } from "../errors.ts";
import { type LoraConfig } from "../../models/lora/mod.ts";
import {
  ACTIVE_SUPPORTS,
  METHOD_NAMES,
  type MethodConfig,
  QUADRATURES,
  resolveMethod,
  STEP_RULES,
} from "../methods/mod.ts";
import { parseConfig } from "../parse_config.ts";
import { SAMPLER_KINDS, type SamplerOptions, SIGMA_RANGES } from "../samplers/mod.ts";
import { DRIFT_KINDS, type Guidance, GUIDANCE_GRADIENTS } from "../batch/mod.ts";
import { checkPanel, checkRewards } from "./check_rewards.ts";
import { COMBINATIONS } from "./combine.ts";
import { COMPUTE_KINDS } from "./budget.ts";
import { type ModelDefaults, UNET_DEFAULTS } from "./run_pipeline.ts";

/** Images of an iteration that have random numbers of their own. */
const MAX_IMAGES = 2 ** 16;

/** A greater factor in the loss is a mistake: its square would not be a float32. */
const MOST_WEIGHT = 1e6;

/** What ends a run before its iterations are done. */
export const STOPS = ["never", "auto"] as const;

/** Scales of the last LoRA that a run with `stop: auto` chooses from where its configuration names none. */
const AUTO_SCALES = [0.75, 0.5, 0.25];

const count = z.int().min(1);
/** A prompt. The tokenizer cuts what the text encoder does not read; far longer ones are a mistake. */
export const promptSchema = z.string().trim().min(1).max(10_000);
const guidanceScale = z.number().min(0).max(100);

/** One reward of a mixture. */
export const rewardTermSchema = z.strictObject({
  /** Name in this run: the key of its metrics. */
  name: z.string().min(1).max(64),
  /** "host:port" of its service. */
  endpoint: z.string().min(1),
  /** Its name on that server; empty for the server's default. */
  reward: z.string().default(""),
  /** A positive weight improves the reward whichever its direction, 0 measures without training. */
  weight: z.number().min(-MOST_WEIGHT).max(MOST_WEIGHT).default(1),
  /** sha256 (hex) its weights must have; empty: any. */
  expectedDigest: z.string().default(""),
  /** What it reads; see `PromptReading`. */
  prompt: z.string().min(1).max(10_000).exactOptional(),
  without: z.array(z.string().min(1)).min(1).max(64).exactOptional(),
  /** See `Counted`. */
  hinge: z.number().exactOptional(),
  zScore: z.boolean().exactOptional(),
});

/** Rewards of a mixture, and of a panel: each is a connection, and is checked against every prompt. */
const MAX_REWARDS = 64;

/** A mixture of rewards with distinct names. */
export const rewardMixtureSchema = z.array(rewardTermSchema).min(1).max(MAX_REWARDS).refine(
  (terms) => new Set(terms.map((t) => t.name)).size === terms.length,
  "expected distinct names",
);

/** A mixture that is trained. */
export const trainedMixtureSchema = rewardMixtureSchema.refine(
  (terms) => terms.some((t) => t.weight !== 0),
  "expected a weight other than 0",
);

/** A reward that is measured and never trained on. */
const panelRewardSchema = rewardTermSchema.omit({ weight: true, hinge: true, zScore: true });

/** How a run trains. Frozen when it starts, defaults filled in, prompts written out. */
export const runConfigSchema = z.strictObject({
  /** Diffusers folder, relative to the model root. */
  model: z.string().min(1),
  method: z.strictObject({
    name: z.enum(METHOD_NAMES).default("drtune"),
    k: count.optional(),
    m: count.optional(),
    inputStopGradient: z.boolean().optional(),
    earlyStop: z.boolean().optional(),
    stepRule: z.enum(STEP_RULES).optional(),
    bias: z.number().exactOptional(),
    rescale: z.number().exactOptional(),
    alpha: z.number().exactOptional(),
    tau: z.number().exactOptional(),
    order: z.int().min(1).max(64).exactOptional(),
    weights: z.enum(QUADRATURES).exactOptional(),
    supports: z.enum(ACTIVE_SUPPORTS).exactOptional(),
    supportScale: z.number().exactOptional(),
    anchor: z.number().exactOptional(),
    concentration: z.array(z.number()).length(3).exactOptional(),
    longestEnd: count.exactOptional(),
    window: z.number().gt(0).exactOptional(),
  }).prefault({}),
  sampler: z.strictObject({
    /** Default: "ddpm", "lcm" for latent consistency models, "flow-euler" for flow-matching ones. */
    kind: z.enum(SAMPLER_KINDS).optional(),
    steps: count.max(1000).default(50),
    eta: z.number().min(0).max(1).default(0),
    /** Default: as the model's scheduler says. */
    karrasSigmas: z.boolean().optional(),
    /** flow-euler's noise levels before shifting. Default: as the model's pipeline has them. */
    sigmas: z.enum(SIGMA_RANGES).optional(),
  }).prefault({}),
  guidance: z.strictObject({
    /** Default: 7.5, 8.5 for latent consistency models, a family's published one for flow-matching models. */
    scale: guidanceScale.optional(),
    gradient: z.enum(GUIDANCE_GRADIENTS).default("both"),
  }).prefault({}),
  lora: z.strictObject({
    rank: count.max(4096).optional(),
    alpha: z.number().positive().optional(),
    targets: z.array(z.string()).min(1).optional(),
    /** Ranks of some modules, by their names or the ends of these. */
    rankPattern: z.record(z.string(), count.max(4096)).optional(),
    /** Alphas of some modules, likewise. */
    alphaPattern: z.record(z.string(), z.number().positive()).optional(),
    /** LoRA file or folder to start from, relative to the model root; it decides what is not given above. */
    init: z.string().min(1).exactOptional(),
    /** Factor on the LoRA in samples and evaluations. */
    sampleScale: z.number().min(0).max(10).default(1),
    /** Decay of the moving average that is drawn, measured and exported in place of what is trained; see `averaged`. */
    ema: z.number().min(0).lt(1).exactOptional(),
  }).prefault({}),
  optimizer: z.strictObject({
    learningRate: z.number().positive().default(2e-5),
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.999),
    epsilon: z.number().positive().default(1e-8),
    weightDecay: z.number().min(0).default(0),
    /** 0: no clipping. */
    maxGradNorm: z.number().min(0).default(0.1),
    /** Updates over which the learning rate rises to its value. */
    warmup: z.int().min(0).default(0),
  }).prefault({}),
  batch: z.strictObject({
    size: count.max(1024).default(1),
    accumulation: count.max(4096).default(1),
  }).refine(
    ({ size, accumulation }) => size * accumulation <= MAX_IMAGES,
    `expected at most ${MAX_IMAGES} images an iteration`,
  ).prefault({}),
  /** What an iteration is cut into, to be computed in any order and anywhere; summed in order. */
  shard: z.strictObject({
    /** Images of a shard, of one batch each. Default: the whole batch. */
    images: count.max(1024),
  }).exactOptional(),
  prompts: z.array(promptSchema).min(1),
  /** Default: the first eight prompts. */
  heldOutPrompts: z.array(promptSchema).min(1).optional(),
  rewards: trainedMixtureSchema,
  /** How the rewards of an image become one number; see `combined`. */
  combine: z.enum(COMBINATIONS).default("sum"),
  /** Averages the rewards' gradients over perturbed copies of the images; see `perturbed`. */
  perturb: z.strictObject({
    copies: count.max(64).default(1),
    /** 0: none. */
    noise: z.number().min(0).max(1).default(0),
  }).prefault({}),
  /** Holds the model to captioned pictures; see `pretrainBatch`. */
  pretrain: z.strictObject({
    /** Below the model root. */
    folder: z.string().min(1),
    weight: z.number().positive().max(MOST_WEIGHT).default(1),
    /** Of pictures and captions, filled in when the run starts: others are refused. */
    sha256: z.string().exactOptional(),
  }).exactOptional(),
  /** Penalty on predicting otherwise than the frozen model at the trained steps; see `Drift`. */
  drift: z.strictObject({
    kind: z.enum(DRIFT_KINDS).default("l2"),
    /** 0: none. */
    weight: z.number().min(0).max(MOST_WEIGHT).default(0),
    /** Iterations after which the present LoRA becomes what drift is measured from; 0: the frozen model stays it. */
    resetEvery: z.int().min(0).default(0),
    /** Share of the images that is penalised; see `Drift`. */
    gate: z.number().gt(0).max(1).exactOptional(),
  }).prefault({}),
  /** Rewards see windows of the images at random offsets of 0 to this many pixels; see `shifted`. */
  randomShift: z.int().min(0).max(64).default(0),
  /** Watches for rewards that rise while others, and the variety of the images, fall; see `findAlarm`. */
  panel: z.strictObject({
    /** Iterations between measurements; 0: none. */
    every: z.int().min(0).default(0),
    /** Besides those of the mixture; those of weight 0 there are held out too. */
    rewards: z.array(panelRewardSchema).max(MAX_REWARDS).default([]),
    /** Images of each held-out prompt. */
    imagesPerPrompt: count.max(64).default(2),
    /** Diversity below this part of the first measurement's is an alarm. */
    minDiversity: z.number().min(0).max(1).default(0.8),
    /** Whether an alarm stops the run. */
    stop: z.boolean().default(false),
    /** Factors on the last LoRA that are measured when the run ends, to choose among them and itself; see `choose`. */
    scales: z.array(z.number().positive().max(2)).max(16).exactOptional(),
    /** α: the chance that `stop: auto` ends a run in which no held-out reward becomes worse; see `evidenceOf`. */
    falseAlarmRate: z.number().gt(0).lt(1).default(0.05),
  }).prefault({}),
  /** Compute after which the run stops; see `isSpent`. Absent: no end. */
  budget: z.strictObject({
    seconds: z.number().positive().max(1e9),
    of: z.enum(COMPUTE_KINDS).default("cpu"),
  }).exactOptional(),
  /** "auto": the run ends when the panel's judges turn, and chooses the LoRA to take. */
  stop: z.enum(STOPS).default("never"),
  seed: z.int().min(0).max(2 ** 32 - 1).default(0),
  iterations: count.max(2 ** 21 - 1).default(100),
  /** 0: only when the run ends. */
  checkpointEvery: z.int().min(0).default(25),
  /** 0: none. */
  sampleEvery: z.int().min(0).default(25),
  latentHeight: count.max(1024).optional(),
  latentWidth: count.max(1024).optional(),
  /**
   * GiB that the process which runs the networks should stay within: above it they run in pieces, computed again for the
   * gradient. Default: half of the machine's memory, or 0.8 of the GPU's, as of the run's start.
   */
  memoryLimit: z.number().min(0.25).max(65_536).optional(),
  /** What the U-Net and the text encoders compute in. All else is float32 always. */
  precision: z.enum(PRECISIONS).default("float32"),
});

export type RewardTerm = z.output<typeof rewardTermSchema>;

/** A checked configuration with every default filled in, those that follow from other fields too. */
export type RunConfig =
  & Omit<z.output<typeof runConfigSchema>, "method" | "lora" | "sampler" | "guidance" | "panel">
  & {
    readonly method: MethodConfig;
    readonly sampler: SamplerOptions & { readonly eta: number };
    readonly guidance: Guidance;
    readonly panel: z.output<typeof runConfigSchema>["panel"] & {
      readonly scales: readonly number[];
    };
    readonly lora: LoraConfig & {
      readonly targets: readonly string[];
      readonly init?: string;
      readonly ema?: number;
      readonly sampleScale: number;
    };
    readonly heldOutPrompts: readonly string[];
  };

/** Prompts sampled and evaluated where a configuration names none: the first of those trained on. */
const HELD_OUT = 8;

const DEFAULT_RANK = 16;

/**
 * Checks a run's configuration and fills in defaults; those of the LoRA are `start`'s where there is one. Throws
 * `FieldError` naming the field, what was found and what was expected, and `file` if given; a method's parameters are
 * checked against the number of sampling steps.
 */
export function parseRunConfig(
  value: unknown,
  { file, start, defaults = UNET_DEFAULTS }: {
    readonly file?: string;
    readonly start?: LoraConfig;
    /** Of the kind of model. */
    readonly defaults?: ModelDefaults;
  } = {},
): RunConfig {
  const config = parseConfig(runConfigSchema, value, file === undefined ? {} : { file });
  const rank = config.lora.rank ?? start?.rank ?? DEFAULT_RANK;
  const alpha = config.lora.alpha ?? start?.alpha ?? rank;
  const targets = [...config.lora.targets ?? start?.targets ?? defaults.targets];
  const {
    rank: _rank,
    alpha: _alpha,
    targets: _targets,
    rankPattern: _ranks,
    alphaPattern: _alphas,
    ...own
  } = config.lora;
  const rankPattern = config.lora.rankPattern ?? start?.rankPattern ?? {};
  const alphaPattern = config.lora.alphaPattern ?? start?.alphaPattern ??
    // Where alpha is not given it is the rank, also a module's own.
    (config.lora.alpha === undefined ? rankPattern : {});
  const heldOutPrompts = config.heldOutPrompts ?? config.prompts.slice(0, HELD_OUT);
  checkPanel(config, heldOutPrompts.length);
  checkRewards(config, [...config.prompts, ...heldOutPrompts]);
  const { drift } = config;
  const { kind = defaults.samplerKind, ...rest } = config.sampler;
  const sampler = { kind, ...rest };
  // Fields stand in one order, whether they were given or filled in: what is written of a run depends on nothing else.
  const guidance = {
    scale: config.guidance.scale ?? defaults.guidanceScale,
    gradient: config.guidance.gradient,
  };
  const isFlow = defaults.isFlow || kind === "flow-euler";
  const isNoisy = sampler.kind === "ddpm" || sampler.kind === "lcm" ||
    (sampler.kind === "ddim" && sampler.eta > 0);
  if (drift.weight > 0 && drift.kind === "kl" && !isNoisy) {
    throw new FieldError(
      "drift.kind",
      `is "kl", expected "l2": sampler ${sampler.kind} with eta ${sampler.eta} adds no noise, so its ` +
        "transitions have no divergence",
    );
  }
  const { heldOutPrompts: _held, panel: { scales: given, ...panel }, ...others } = config;
  const scales = given ?? (config.stop === "auto" ? AUTO_SCALES : []);
  return {
    ...others,
    panel: { ...panel, scales },
    sampler,
    guidance,
    method: resolveMethod(config.method, sampler.steps, { isFlow }),
    lora: {
      rank,
      alpha,
      targets,
      ...(isSome(rankPattern) && { rankPattern }),
      ...(isSome(alphaPattern) && { alphaPattern }),
      ...own,
    },
    heldOutPrompts,
  };
}

const isSome = (pattern: object) => Object.keys(pattern).length > 0;

const samplingSchema = runConfigSchema.pick({
  sampler: true,
  latentHeight: true,
  latentWidth: true,
}).extend({ guidanceScale });

/**
 * A run's configuration for drawing with another sampler, guidance or size. What belongs to another kind of sampler is
 * not kept. Throws `FieldError`.
 */
export function withSampling(
  config: RunConfig,
  { sampler = {}, guidanceScale: scale = config.guidance.scale, ...size }: {
    readonly sampler?: Readonly<Record<string, unknown>>;
    readonly guidanceScale?: number;
    readonly latentHeight?: number;
    readonly latentWidth?: number;
  },
): RunConfig {
  const { kind, steps, ...own } = config.sampler;
  const isSame = sampler.kind === undefined || sampler.kind === kind;
  const { guidanceScale, sampler: drawn, ...rest } = parseConfig(samplingSchema, {
    sampler: { kind, steps, ...isSame && own, ...sampler },
    guidanceScale: scale,
    latentHeight: config.latentHeight,
    latentWidth: config.latentWidth,
    ...size,
  });
  return {
    ...config,
    ...rest,
    sampler: { ...drawn, kind: drawn.kind ?? kind },
    guidance: { ...config.guidance, scale: guidanceScale },
  };
}

/** Whether a run may have this id. */
export function isRunId(id: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,63}$/.test(id);
}

/** A run id: the name of its folder. */
export function checkRunId(id: string): string {
  if (isRunId(id)) return id;
  throw new FieldError(
    "runId",
    `is ${
      JSON.stringify(cut(id, 80))
    }, expected 1 to 64 of a-z, 0-9, ".", "_", "-", beginning with a letter or digit`,
  );
}
