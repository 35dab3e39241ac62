import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseClipTextConfig } from "../../clip/mod.ts";
import { openWeights, WeightsError, type WeightSource } from "../../weights/mod.ts";
import type { TokenizerPlace } from "../../tokenizer/mod.ts";
import { checkFit } from "../_check_fit.ts";
import type { Part, Pipeline } from "../pipeline.ts";
import { parseUNetConfig } from "../unet_config.ts";
import { parseVaeConfig } from "../vae_config.ts";
import { predictionOf } from "./_prediction.ts";
import { type CheckpointKind, FIRST, recognize } from "./_recognize.ts";
import { openClipText, transformersText } from "./_text.ts";
import { type Renamed, renamedUNet } from "./_unet.ts";
import { renamedVae } from "./_vae.ts";

/** What neither names nor shapes say, by kind: what diffusers takes from the folders of the published models. */
const FACTS = {
  v1: { scale: 0.18215, sampleSize: 64, heads: () => 8, scheduler: {} },
  v2: { scale: 0.18215, sampleSize: 96, heads: byWidth, scheduler: {} },
  xl: {
    scale: 0.13025,
    sampleSize: 128,
    heads: byWidth,
    scheduler: { timestep_spacing: "leading" },
  },
} as const satisfies Record<CheckpointKind, object>;

/** All three were trained on this schedule. */
const SCHEDULE = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  steps_offset: 1,
  set_alpha_to_one: false,
  clip_sample: false,
};

const VAE_PREFIX = "first_stage_model.";
const TOKENIZER = fileURLToPath(new URL("../../tokenizer/clip_bpe", import.meta.url));
/** Tokens of the tokenizer that all published models have. */
const VOCABULARY = 49408;

/**
 * Reads a single-file checkpoint of Stable Diffusion 1, 2 or XL as model sites offer them, `.safetensors` or `.ckpt`, under
 * the names of latent-diffusion: a configuration is chosen by names and shapes, weights stay where they are. A noise
 * schedule is not in such a file; what the U-Net predicts says `predictionOf`. The tokenizer is CLIP's, or that of a folder `tokenizer` beside the file.
 *
 * Throws `WeightsError` or `ConfigError`, both naming the file.
 */
export async function readSingleFile(
  path: string,
  { cacheDir }: { readonly cacheDir: string },
): Promise<Pipeline> {
  const whole = await openCheckpoint(path, cacheDir);
  const kind = recognize(whole);
  const { scale, sampleSize, heads, scheduler } = FACTS[kind];
  const part = <C>(
    prefix: string,
    rename: (source: WeightSource) => Renamed,
    parse: (config: Record<string, unknown>, path: string) => C,
  ): Part<C> => {
    const source = whole.under(prefix);
    const { aliases, config } = rename(source);
    checkAllRead(source, aliases, prefix);
    return { config: parse(config, path), weights: source.renamed(aliases) };
  };
  if (!whole.names().some((name) => name.startsWith(`${VAE_PREFIX}decoder.`))) {
    throw new WeightsError(
      path,
      "has no VAE (first_stage_model), expected a file with one baked in",
    );
  }
  const prediction = await predictionOf(path, { whole, kind });
  const unet = part(
    "model.diffusion_model.",
    (source) =>
      renamedUNet(source, {
        heads,
        // The base model of 2, which predicts noise, was trained at 64.
        sampleSize: kind === "v2" && prediction === "epsilon" ? 64 : sampleSize,
        upcastAttention: kind === "v2",
      }),
    parseUNetConfig,
  );
  const vae = part(VAE_PREFIX, (source) => renamedVae(source, scale), parseVaeConfig);
  const text = (prefix: string, rename: (source: WeightSource) => Renamed) =>
    part(prefix, rename, parseClipTextConfig);
  const textEncoders = {
    v1: () => [text("cond_stage_model.transformer.", transformersText)],
    v2: () => [
      text("cond_stage_model.model.", (source) => openClipText(source, { isPenultimate: true })),
    ],
    xl: () => [
      text("conditioner.embedders.0.transformer.", transformersText),
      text(
        "conditioner.embedders.1.model.",
        (source) => openClipText(source, { isPenultimate: false }),
      ),
    ],
  }[kind]();
  const pipelineKind = kind === "xl" ? "sdxl" : "sd";
  checkFit(path, { kind: pipelineKind, unet: unet.config, vae: vae.config, texts: textEncoders });
  return {
    folder: path,
    kind: pipelineKind,
    unet,
    vae,
    textEncoders,
    tokenizers: textEncoders.map(({ config }, i) =>
      tokenizer(path, {
        suffix: i === 0 ? "" : "_2",
        // open_clip fills up with id 0, "!", OpenAI's CLIP with the end mark.
        padToken: kind === "v2" || i > 0 ? "!" : "<|endoftext|>",
        vocabulary: config.vocabSize,
      })
    ),
    scheduler: {
      path,
      className: "DDIMScheduler",
      pipelineClass: kind === "xl" ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline",
      config: {
        ...SCHEDULE,
        ...scheduler,
        prediction_type: prediction,
        // Two empty tensors tell so, of models that were trained to predict v from pure noise on.
        ...(whole.has("ztsnr") && { rescale_betas_zero_snr: true }),
      },
    },
    forceZerosForEmptyPrompt: kind === "xl",
  };
}

/** Modules of the U-Net and the VAE's decoder. What trainers and mergers leave beside them changes nothing. */
const READ =
  /^(?:input_blocks|middle_block|output_blocks|out|time_embed|time_embedding|label_emb|decoder|post_quant_conv)\./;

/** A weight that no layer reads would be left out without a word. */
function checkAllRead(
  source: WeightSource,
  aliases: Renamed["aliases"],
  prefix: string,
): void {
  const read = new Set([...aliases.values()].map(({ name }) => name));
  const left = source.names().find((name) => READ.test(name) && !read.has(name));
  if (left === undefined) return;
  throw new WeightsError(
    source.path,
    `has "${prefix}${left}", which no layer of Stable Diffusion 1, 2 or XL reads`,
  );
}

/** The weights by their names without what a training program or a wrapper put before all of them. */
async function openCheckpoint(path: string, cacheDir: string): Promise<WeightSource> {
  const source = await openWeights(path, { cacheDir });
  const prefixes = source.names().filter((name) => name === FIRST || name.endsWith(`.${FIRST}`))
    .map((name) => name.slice(0, -FIRST.length));
  const prefix = ["", "state_dict."].find((p) => prefixes.includes(p)) ?? prefixes[0];
  return prefix === undefined || prefix === "" ? source : source.under(prefix);
}

function byWidth(channels: number): number {
  return Math.max(1, Math.floor(channels / 64));
}

/** The folder of a text encoder's tokenizer: one beside the file, or CLIP's. */
function tokenizer(
  path: string,
  { suffix, padToken, vocabulary }: {
    readonly suffix: string;
    readonly padToken: string;
    readonly vocabulary: number;
  },
): string | TokenizerPlace {
  const beside = join(dirname(path), `tokenizer${suffix}`);
  if (existsSync(beside)) return beside;
  if (vocabulary === VOCABULARY) return { folder: TOKENIZER, padToken };
  throw new WeightsError(
    path,
    `has a text encoder of ${vocabulary} tokens, expected ${VOCABULARY} as CLIP has, or its tokenizer in ${beside}`,
  );
}
