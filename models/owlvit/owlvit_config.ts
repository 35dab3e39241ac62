import { z } from "zod";
import {
  type ClipConfig,
  INERT,
  INHERITED,
  parseClipTextConfig,
  parseClipVisionConfig,
  withoutBookkeeping,
} from "../clip/mod.ts";
import { count, inert, only, parseConfig } from "../config.ts";

const fields = () => z.record(z.string(), z.unknown(), "an object").default({});

const SCHEMA = z.strictObject({
  ...INERT,
  ...INHERITED,
  ...inert("logit_scale_init_value", "vision_config_dict", "text_config_dict"),
  model_type: only("owlvit"),
  projection_dim: count().default(512),
  vision_config: fields(),
  text_config: fields(),
});

/** OWL-ViT pools text at the largest token id. */
const LARGEST_ID = 2;

/**
 * Checks the `config.json` of transformers' `OwlViTForObjectDetection`: two CLIP towers whose joint space is as wide as
 * the text tower. Throws `ConfigError` naming `path`, the field, what was found and what was expected.
 */
export function parseOwlVitConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipConfig {
  const c = parseConfig(SCHEMA, withoutBookkeeping(value), path);
  const { model_type: _, ...textFields } = c.text_config;
  const vision = parseClipVisionConfig(
    { image_size: 768, ...c.vision_config },
    { path, within: "vision_config" },
  );
  const text = parseClipTextConfig(
    { max_position_embeddings: 16, ...textFields, eos_token_id: LARGEST_ID },
    { path, within: "text_config" },
  );
  parseConfig(
    z.object({ projection_dim: only(text.width) }),
    { projection_dim: c.projection_dim },
    path,
  );
  return {
    projectionDim: c.projection_dim,
    vision,
    text: { ...text, projectionDim: c.projection_dim },
  };
}
