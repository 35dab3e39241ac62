import { z } from "zod";
import { count, inert, only, parseConfig } from "../config.ts";
import { type ClipTextConfig, INERT, INHERITED, parseClipTextConfig } from "./text_config.ts";
import { type ClipVisionConfig, parseClipVisionConfig } from "./vision_config.ts";

/** A whole CLIP: two towers and the width of the space they share. */
export interface ClipConfig {
  readonly projectionDim: number;
  readonly vision: ClipVisionConfig;
  readonly text: ClipTextConfig;
}

const fields = () => z.record(z.string(), z.unknown(), "an object").default({});

const SCHEMA = z.strictObject({
  ...INERT,
  ...INHERITED,
  ...inert("logit_scale_init_value", "vision_config_dict", "text_config_dict"),
  model_type: only("clip"),
  projection_dim: count().default(512),
  vision_config: fields(),
  text_config: fields(),
});

/**
 * Checks the `config.json` of transformers' `CLIPModel`. Throws `ConfigError` naming `path`, the field, what was found
 * and what was expected.
 */
export function parseClipConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipConfig {
  const c = parseConfig(SCHEMA, value, path);
  const vision = parseClipVisionConfig(c.vision_config, path);
  const text = parseClipTextConfig(c.text_config, path);
  // The towers' own projection_dim is for towers saved alone; a whole CLIP has one for both.
  return {
    projectionDim: c.projection_dim,
    vision,
    text: { ...text, projectionDim: c.projection_dim },
  };
}
