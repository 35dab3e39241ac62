import { z } from "zod";
import { count, inert, only, parseConfig } from "../config.ts";
import { withoutBookkeeping } from "./bookkeeping.ts";
import { type ClipTextConfig, INERT, INHERITED, parseClipTextConfig } from "./text_config.ts";
import { type ClipVisionConfig, parseClipVisionConfig } from "./vision_config.ts";

/** A vision tower and the width of the space that it is projected into. */
export interface ClipImageConfig {
  readonly projectionDim: number;
  readonly vision: ClipVisionConfig;
}

/** A whole CLIP: two towers and the width of the space they share. */
export interface ClipConfig extends ClipImageConfig {
  readonly text: ClipTextConfig;
}

const fields = () => z.record(z.string(), z.unknown(), "an object").nullish();

const SCHEMA = z.strictObject({
  ...INERT,
  ...INHERITED,
  ...inert("logit_scale_init_value"),
  model_type: only("clip"),
  projection_dim: count().default(512),
  vision_config: fields(),
  text_config: fields(),
  // Releases of transformers before 4.22 wrote the towers here, and later ones still let these decide.
  vision_config_dict: fields(),
  text_config_dict: fields(),
});

/**
 * Checks the `config.json` of transformers' `CLIPModel`. Throws `ConfigError` naming `path`, the field, what was found
 * and what was expected.
 */
export function parseClipConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipConfig {
  const c = parseConfig(SCHEMA, withoutBookkeeping(value), path);
  const { within: ofVision, fields: vision } = tower(c, "vision_config");
  const { within: ofText, fields: text } = tower(c, "text_config");
  // The towers' own projection_dim is for towers saved alone; a whole CLIP has one for both.
  return {
    projectionDim: c.projection_dim,
    vision: parseClipVisionConfig(vision, { path, within: ofVision }),
    text: {
      ...parseClipTextConfig(text, { path, within: ofText }),
      projectionDim: c.projection_dim,
    },
  };
}

type Towers = "vision_config" | "text_config";

/**
 * The fields of a tower and what they stand under. transformers fills a `_dict` up with defaults and then overwrites
 * the other with it, so that where there is one it decides alone.
 */
function tower(c: z.output<typeof SCHEMA>, name: Towers) {
  const dict = c[`${name}_dict`];
  return dict ? { within: `${name}_dict`, fields: dict } : { within: name, fields: c[name] ?? {} };
}

const VISION_SCHEMA = z.object({
  model_type: only("clip_vision_model"),
  projection_dim: count().default(512),
});

/**
 * Checks the `config.json` of transformers' `CLIPVisionModelWithProjection`, a vision tower saved alone. Throws
 * `ConfigError` as `parseClipConfig` does.
 */
export function parseClipImageConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipImageConfig {
  const { projection_dim: projectionDim } = parseConfig(VISION_SCHEMA, value, path);
  return { projectionDim, vision: parseClipVisionConfig(value, path) };
}
