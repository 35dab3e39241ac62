import type { Shape } from "../../autodiff/mod.ts";
import { type ModuleSource, networkModules } from "../diffusers/mod.ts";
import type { AdaptableLayer, LayerAlias } from "../lora/mod.ts";

/**
 * A module's name in the layout that its authors published, which ComfyUI, kohya's scripts and ai-toolkit go by. A
 * fused layer holds several modules' rows: `start` says from which this one's come.
 */
export interface Renaming {
  /** Of diffusers' name, whole. */
  readonly from: RegExp;
  readonly to: string;
  readonly start?: (shape: Shape) => number;
}

const width = (shape: Shape) => shape[0] ?? 0;

/** Queries, keys and values as the parts of one layer. */
function fused(from: string, names: readonly [string, string, string], to: string): Renaming[] {
  return names.map((name, i) => ({
    from: new RegExp(`^${from}\\.${name}$`),
    to,
    start: (shape) => i * width(shape),
  }));
}

const OWN = ["to_q", "to_k", "to_v"] as const;
const ADDED = ["add_q_proj", "add_k_proj", "add_v_proj"] as const;
const one = (from: string, to: string): Renaming => ({ from: new RegExp(`^${from}$`), to });

/** Stability's names. The last normalizations have scale and shift the other way round, so they have no name here. */
export const SD3_NAMES: readonly Renaming[] = [
  ...fused("transformer_blocks\\.(\\d+)\\.attn", OWN, "joint_blocks.$1.x_block.attn.qkv"),
  ...fused("transformer_blocks\\.(\\d+)\\.attn2", OWN, "joint_blocks.$1.x_block.attn2.qkv"),
  ...fused("transformer_blocks\\.(\\d+)\\.attn", ADDED, "joint_blocks.$1.context_block.attn.qkv"),
  one("transformer_blocks\\.(\\d+)\\.(attn2?)\\.to_out\\.0", "joint_blocks.$1.x_block.$2.proj"),
  one("transformer_blocks\\.(\\d+)\\.attn\\.to_add_out", "joint_blocks.$1.context_block.attn.proj"),
  one("transformer_blocks\\.(\\d+)\\.ff\\.net\\.0\\.proj", "joint_blocks.$1.x_block.mlp.fc1"),
  one("transformer_blocks\\.(\\d+)\\.ff\\.net\\.2", "joint_blocks.$1.x_block.mlp.fc2"),
  one(
    "transformer_blocks\\.(\\d+)\\.ff_context\\.net\\.0\\.proj",
    "joint_blocks.$1.context_block.mlp.fc1",
  ),
  one(
    "transformer_blocks\\.(\\d+)\\.ff_context\\.net\\.2",
    "joint_blocks.$1.context_block.mlp.fc2",
  ),
  one(
    "transformer_blocks\\.(\\d+)\\.norm1\\.linear",
    "joint_blocks.$1.x_block.adaLN_modulation.1",
  ),
  one("time_text_embed\\.timestep_embedder\\.linear_1", "t_embedder.mlp.0"),
  one("time_text_embed\\.timestep_embedder\\.linear_2", "t_embedder.mlp.2"),
  one("time_text_embed\\.text_embedder\\.linear_1", "y_embedder.mlp.0"),
  one("time_text_embed\\.text_embedder\\.linear_2", "y_embedder.mlp.2"),
  one("pos_embed\\.proj", "x_embedder.proj"),
  one("proj_out", "final_layer.linear"),
];

const BLOCK = "transformer_blocks\\.(\\d+)";
const SINGLE = "single_transformer_blocks\\.(\\d+)";

/** What Black Forest Labs' models have in common. */
const FLUX_SHARED: readonly Renaming[] = [
  ...fused(`${BLOCK}\\.attn`, OWN, "double_blocks.$1.img_attn.qkv"),
  ...fused(`${BLOCK}\\.attn`, ADDED, "double_blocks.$1.txt_attn.qkv"),
  one(`${BLOCK}\\.attn\\.to_out\\.0`, "double_blocks.$1.img_attn.proj"),
  one(`${BLOCK}\\.attn\\.to_add_out`, "double_blocks.$1.txt_attn.proj"),
  one("x_embedder", "img_in"),
  one("context_embedder", "txt_in"),
  one("proj_out", "final_layer.linear"),
];

/** Black Forest Labs' names of FLUX.1. Its last normalization has scale and shift the other way round. */
export const FLUX_NAMES: readonly Renaming[] = [
  ...FLUX_SHARED,
  one(`${BLOCK}\\.ff\\.net\\.0\\.proj`, "double_blocks.$1.img_mlp.0"),
  one(`${BLOCK}\\.ff\\.net\\.2`, "double_blocks.$1.img_mlp.2"),
  one(`${BLOCK}\\.ff_context\\.net\\.0\\.proj`, "double_blocks.$1.txt_mlp.0"),
  one(`${BLOCK}\\.ff_context\\.net\\.2`, "double_blocks.$1.txt_mlp.2"),
  one(`${BLOCK}\\.norm1\\.linear`, "double_blocks.$1.img_mod.lin"),
  one(`${BLOCK}\\.norm1_context\\.linear`, "double_blocks.$1.txt_mod.lin"),
  ...fused(`${SINGLE}\\.attn`, OWN, "single_blocks.$1.linear1"),
  {
    from: new RegExp(`^${SINGLE}\\.proj_mlp$`),
    to: "single_blocks.$1.linear1",
    // After queries, keys and values of the width it reads.
    start: ([, input = 0]) => 3 * input,
  },
  one(`${SINGLE}\\.proj_out`, "single_blocks.$1.linear2"),
  one(`${SINGLE}\\.norm\\.linear`, "single_blocks.$1.modulation.lin"),
  one("time_text_embed\\.timestep_embedder\\.linear_1", "time_in.in_layer"),
  one("time_text_embed\\.timestep_embedder\\.linear_2", "time_in.out_layer"),
  one("time_text_embed\\.guidance_embedder\\.linear_1", "guidance_in.in_layer"),
  one("time_text_embed\\.guidance_embedder\\.linear_2", "guidance_in.out_layer"),
  one("time_text_embed\\.text_embedder\\.linear_1", "vector_in.in_layer"),
  one("time_text_embed\\.text_embedder\\.linear_2", "vector_in.out_layer"),
  // XLabs' processors: 1 is of the image's attention, 2 of the text's.
  ...fused(`${BLOCK}\\.attn`, OWN, "double_blocks.$1.qkv_lora1"),
  ...fused(`${BLOCK}\\.attn`, ADDED, "double_blocks.$1.qkv_lora2"),
  one(`${BLOCK}\\.attn\\.to_out\\.0`, "double_blocks.$1.proj_lora1"),
  one(`${BLOCK}\\.attn\\.to_add_out`, "double_blocks.$1.proj_lora2"),
  ...fused(`${SINGLE}\\.attn`, OWN, "single_blocks.$1.qkv"),
  one(`${SINGLE}\\.proj_out`, "single_blocks.$1.proj"),
];

/** Black Forest Labs' names of FLUX.2. */
export const FLUX2_NAMES: readonly Renaming[] = [
  ...FLUX_SHARED,
  one(`${BLOCK}\\.ff\\.linear_in`, "double_blocks.$1.img_mlp.0"),
  one(`${BLOCK}\\.ff\\.linear_out`, "double_blocks.$1.img_mlp.2"),
  one(`${BLOCK}\\.ff_context\\.linear_in`, "double_blocks.$1.txt_mlp.0"),
  one(`${BLOCK}\\.ff_context\\.linear_out`, "double_blocks.$1.txt_mlp.2"),
  one(`${SINGLE}\\.attn\\.to_qkv_mlp_proj`, "single_blocks.$1.linear1"),
  one(`${SINGLE}\\.attn\\.to_out`, "single_blocks.$1.linear2"),
  one("(double_stream_modulation_(?:img|txt)|single_stream_modulation)\\.linear", "$1.lin"),
  one("time_guidance_embed\\.timestep_embedder\\.linear_1", "time_in.in_layer"),
  one("time_guidance_embed\\.timestep_embedder\\.linear_2", "time_in.out_layer"),
  one("time_guidance_embed\\.guidance_embedder\\.linear_1", "guidance_in.in_layer"),
  one("time_guidance_embed\\.guidance_embedder\\.linear_2", "guidance_in.out_layer"),
];

/** Alibaba's names of Z-Image. */
export const Z_IMAGE_NAMES: readonly Renaming[] = [
  ...fused("(.*)\\.attention", OWN, "$1.attention.qkv"),
  one("(.*)\\.attention\\.to_out\\.0", "$1.attention.out"),
  one("all_x_embedder\\.2-1", "x_embedder"),
  one("all_final_layer\\.2-1\\.(.*)", "final_layer.$1"),
];

/** A transformer's modules with weights, with their names elsewhere; `to_out` is what PEFT's older files call `to_out.0`. */
export function transformerModules(
  source: ModuleSource,
  names: readonly Renaming[],
): readonly AdaptableLayer[] {
  return networkModules(source).map((module) => {
    const { name, shape } = module;
    const elsewhere = names.flatMap(({ from, to, start }): LayerAlias[] => {
      if (!from.test(name)) return [];
      const alias = name.replace(from, to);
      if (start === undefined) return [{ name: alias }];
      const first = start(shape);
      return [{ name: alias, rows: [first, first + width(shape)] }];
    });
    const short = name.replace(/\.to_out\.0$/, ".to_out");
    return { ...module, aliases: [...elsewhere, ...short === name ? [] : [{ name: short }]] };
  });
}
