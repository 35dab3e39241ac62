import { globToRegExp } from "./_glob.ts";
import type { HubFile } from "./hub.ts";

/** What is never read here: other frameworks' weights, exports, pictures. */
const OTHERS = [
  ...["*.msgpack", "*.h5", "*.onnx", "*.onnx_data", "*.ot", "*.tflite", "*.mlmodel", "*.gguf"],
  ...["openvino_*", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.webp", "*.mp4", ".gitattributes"],
  ...["*.ipynb", "*.pdf"],
];

/** Folders of a diffusers pipeline that are read; others hold a safety checker, copies for other programs, older parts. */
const PARTS = /^(?:unet|transformer|vae|scheduler|text_encoder(?:_[23])?|tokenizer(?:_[23])?)\//;

const WEIGHTS = /\.(safetensors|bin|ckpt|pt|pth)$/;

/**
 * The files of a repository that are read here: those that the patterns name, or else of a diffusers pipeline its parts,
 * and of a model its configuration, tokenizer and weights. Where weights lie there twice they are taken once, as
 * safetensors, and of variants ("fp16") the one that is asked for, or the plain one.
 */
export function chooseFiles(
  files: readonly HubFile[],
  { patterns, variant }: {
    readonly patterns?: readonly string[] | undefined;
    readonly variant?: string | undefined;
  } = {},
): readonly HubFile[] {
  if (patterns !== undefined) {
    const wanted = patterns.map(globToRegExp);
    const chosen = files.filter(({ path }) => wanted.some((p) => p.test(path)));
    return withoutTwins(chosen);
  }
  const others = OTHERS.map((pattern) => globToRegExp(`**/${pattern}`));
  const read = files.filter(({ path }) => !others.some((p) => p.test(path)));
  const isPipeline = read.some(({ path }) => path === "model_index.json");
  // A pipeline's repository often holds the same weights once more in one file.
  const parts = isPipeline
    ? read.filter(({ path }) => PARTS.test(path) || (!path.includes("/") && !WEIGHTS.test(path)))
    : read;
  return withoutTwins(ofVariant(parts, variant));
}

/** Without PyTorch files beside safetensors of the same folder. */
function withoutTwins(files: readonly HubFile[]): readonly HubFile[] {
  const safe = new Set(
    files.filter(({ path }) => /\.safetensors(\.index\.json)?$/.test(path)).map((f) =>
      folderOf(f.path)
    ),
  );
  return files.filter(({ path }) =>
    !/\.(bin|ckpt|pt|pth|bin\.index\.json)$/.test(path) || !safe.has(folderOf(path))
  );
}

function ofVariant(files: readonly HubFile[], variant: string | undefined): readonly HubFile[] {
  const isWeight = ({ path }: HubFile) => /\.(safetensors|bin)(\.index(\..+)?\.json)?$/.test(path);
  const variantOf = ({ path }: HubFile) =>
    /\.(fp16|bf16|fp32|non_ema|ema|fp8)(-\d{5}-of-\d{5})?\.(?:safetensors|bin)/.exec(path)?.[1] ??
      /\.index\.(\w+)\.json$/.exec(path)?.[1];
  const weights = files.filter(isWeight);
  const kept = files.filter((file) => {
    if (!isWeight(file)) return true;
    const own = variantOf(file);
    const here = weights.filter((f) => folderOf(f.path) === folderOf(file.path)).map(variantOf);
    // A part without the variant, or with nothing but one, gives what it has.
    const wanted = here.includes(variant)
      ? variant
      : here.includes(undefined)
      ? undefined
      : here[0];
    return own === wanted;
  });
  return kept;
}

const folderOf = (path: string) => path.slice(0, path.lastIndexOf("/") + 1);
