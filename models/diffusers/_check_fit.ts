import type { ClipTextConfig } from "../clip/mod.ts";
import { ConfigError } from "../config.ts";
import type { Part, Pipeline } from "./pipeline.ts";
import type { UNetConfig } from "./unet_config.ts";
import type { VaeConfig } from "./vae_config.ts";

/** What U-Nets of more input channels than the latents have read beside them. */
const BESIDE_LATENTS: Readonly<Record<number, string>> = {
  5: "a depth map, which depth-to-image models read",
  7: "a small image, which upscalers read",
  8: "another image, which models that follow instructions or enlarge read",
  9: "a mask and an image, which inpainting models read",
};

/** What one part gives, another must take. Throws `ConfigError` naming the U-Net's `path`. */
export function checkFit(
  path: string,
  { kind, unet, vae, texts }: {
    readonly kind: Pipeline["kind"];
    readonly unet: UNetConfig;
    readonly vae: VaeConfig;
    readonly texts: readonly Part<ClipTextConfig>[];
  },
): void {
  const check = (field: string, found: unknown, expected: unknown, why: string) => {
    if (found === expected) return;
    throw new ConfigError(path, `"${field}" is ${found}, expected ${expected}, ${why}`);
  };
  const width = texts.reduce((sum, { config }) => sum + config.width, 0);
  const beside = vae.latentChannels === 4 ? BESIDE_LATENTS[unet.inChannels] : undefined;
  const drawn = "latent_channels of the VAE";
  check(
    "in_channels",
    unet.inChannels,
    vae.latentChannels,
    beside === undefined ? drawn : `${drawn}: the others are for ${beside}`,
  );
  check("out_channels", unet.outChannels, vae.latentChannels, drawn);
  // Pipelines of U-Nets do not add it.
  check("shift_factor of the VAE", vae.shiftFactor, 0, "which is null");
  check("cross_attention_dim", unet.contextWidth, width, "hidden_size of the text encoders");
  check(
    "addition_embed_type",
    unet.textTime === undefined ? null : "text_time",
    kind === "sd" ? null : "text_time",
    "as in the pipeline's class",
  );
  if (unet.textTime !== undefined) {
    const pooled = texts.at(-1)?.config.projectionDim;
    check(
      "projection_class_embeddings_input_dim, less the sizes' part,",
      unet.textTime.textWidth,
      pooled,
      "projection_dim of text_encoder_2",
    );
  }
}
