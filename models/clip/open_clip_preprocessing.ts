import { z } from "zod";
import { inert, only, parseConfig } from "../config.ts";
import { CLIP_MEAN, CLIP_STD, type ImagePreprocessing } from "./preprocessing.ts";

const perChannel = (least: number, expected: string) =>
  z.array(z.number(expected).gt(least, expected), expected).length(3, expected).nullish();

const RESIZES = { shortest: "cover", longest: "within", squash: "stretch" } as const;

const SCHEMA = z.strictObject({
  // open_clip replaces the size by that of the vision tower.
  ...inert("size"),
  mode: only("RGB").nullish(),
  mean: perChannel(-Infinity, "three numbers"),
  std: perChannel(0, "three numbers above 0"),
  interpolation: only("bicubic", "bilinear", "random").nullish(),
  resize_mode: only("shortest", "longest", "squash").nullish(),
  fill_color: only(0).nullish(),
});

/**
 * The `preprocess_cfg` of an `open_clip_config.json`, with open_clip's defaults for fields left out. Throws
 * `ConfigError` naming `path`, the field, what was found and what was expected.
 *
 * @param imageSize side of the vision tower's square, in pixels
 */
export function parseOpenClipPreprocessing(
  value: Readonly<Record<string, unknown>>,
  { path, imageSize }: { readonly path: string; readonly imageSize: number },
): ImagePreprocessing {
  const c = parseConfig(SCHEMA, value, { path, within: "preprocess_cfg" });
  return {
    resize: RESIZES[c.resize_mode ?? "shortest"],
    resizeTo: { height: imageSize, width: imageSize },
    // open_clip draws "random" between training images alone, and evaluates with bicubic.
    resample: c.interpolation === "bilinear" ? "bilinear" : "bicubic",
    scale: 1,
    mean: c.mean ?? CLIP_MEAN,
    std: c.std ?? CLIP_STD,
  };
}
