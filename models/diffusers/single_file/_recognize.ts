import { WeightsError, type WeightSource } from "../../weights/mod.ts";

/** Which checkpoint a file holds: latent-diffusion's of Stable Diffusion 1 and 2, generative-models' of XL. */
export type CheckpointKind = "v1" | "v2" | "xl";

const UNET = "model.diffusion_model.";

/** A name that all checkpoints have. */
export const FIRST = `${UNET}input_blocks.0.0.weight`;

/** What other files hold, by a name that only they have. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [/^(model\.diffusion_model\.)?joint_blocks\./, "a transformer of Stable Diffusion 3"],
  [/^(model\.diffusion_model\.)?double_blocks\./, "a transformer of FLUX's kind"],
  [/^(control_model|controlnet_cond_embedding)\./, "a ControlNet"],
  [/^lora_(unet|te\d?)_|\.lora(_[AB]|\.up|\.down|_up|_down)?\./, "a LoRA, which goes with --lora"],
  [
    /^(down_blocks|conv_in)\./,
    "a U-Net alone in diffusers' names, expected its folder with the other parts",
  ],
  [/^(encoder|decoder)\./, "a VAE alone"],
  [/^text_model\./, "a text encoder alone"],
  [/^model_ema\./, "averaged weights alone (model_ema), expected model.diffusion_model too"],
  [/^emb_params$|^string_to_param/, "a textual inversion"],
];

/**
 * Tells which checkpoint it is by names and shapes as diffusers does (`infer_diffusers_model_type`). Throws `WeightsError`
 * saying what it is instead where it is none that is read.
 */
export function recognize(source: WeightSource): CheckpointKind {
  const fail = (detail: string): never => {
    throw new WeightsError(source.path, detail);
  };
  const names = source.names();
  if (!source.has(FIRST)) {
    const other = OTHERS.find(([pattern]) => names.some((name) => pattern.test(name)));
    return fail(
      `${
        other === undefined ? "is no model" : `holds ${other[1]}`
      }: expected a diffusers folder or a single-file ` +
        "checkpoint of Stable Diffusion 1, 2 or XL, with a U-Net under model.diffusion_model",
    );
  }
  if (source.has("edm_mean")) {
    return fail("is Playground 2.5, whose noise levels are EDM's, not a schedule of betas");
  }
  if (names.some((name) => name.startsWith("conditioner.embedders.1."))) return "xl";
  if (names.some((name) => name.startsWith("conditioner.embedders.0.model."))) {
    return fail("is the refiner of XL, which goes on with another model's pictures: not done here");
  }
  const context = `${UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight`;
  if (names.some((name) => name.startsWith("cond_stage_model.model."))) {
    if (source.has(`${UNET}label_emb.0.0.weight`)) {
      return fail("is an unCLIP model, whose U-Net reads an image's embedding too");
    }
    return "v2";
  }
  if (names.some((name) => name.startsWith("cond_stage_model."))) return "v1";
  return fail(
    `has no text encoder (cond_stage_model or conditioner), expected one${
      source.has(context) ? ": the file holds a U-Net and no whole model" : ""
    }`,
  );
}
