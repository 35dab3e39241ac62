import type { Tensor } from "../../autodiff/mod.ts";
import { isTarget, type LoraConfig, type LoraTensors } from "./adapter.ts";
import { METADATA_KEY } from "./read_adapter.ts";

/** A trained adapter of a denoiser with its values, under the names of `loraShapes`. */
export interface Lora extends LoraConfig {
  readonly targets: readonly string[];
  readonly tensors: LoraTensors;
}

/** What a safetensors file holds. */
export interface LoraFile {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A PEFT folder: `adapter_model.safetensors` and `adapter_config.json`. */
export interface PeftFolder extends LoraFile {
  readonly config: Readonly<Record<string, unknown>>;
}

/** Notes on where an adapter comes from, for the metadata of its file. */
type Notes = Readonly<Record<string, string>>;

const DOWN = ".lora_A.weight";
const UP = ".lora_B.weight";

/** A denoiser, by diffusers' name of it in a pipeline. */
export type DenoiserPart = "unet" | "transformer";

/** What diffusers' U-Nets call what they consist of; no transformer has any of these names. */
const UNET_MODULES =
  /^(?:down_blocks|mid_block|up_blocks|conv_in|conv_out|conv_norm_out|time_embedding|add_embedding)\./;

/** Of which denoiser an adapter's tensors, or modules, are: their names say so. */
export function denoiserOf(names: readonly string[]): DenoiserPart {
  return names.length > 0 && !names.some((name) => UNET_MODULES.test(name))
    ? "transformer"
    : "unet";
}

/**
 * The adapter in diffusers' names, `unet.<module>.lora_A.weight` or `transformer.<module>.lora_A.weight`, with the
 * metadata that pipelines' `save_lora_weights` writes, so that `load_lora_weights` scales it right.
 */
export function toDiffusersLora(lora: Lora, notes: Notes = {}): LoraFile {
  const part = denoiserOf(Object.keys(lora.tensors));
  return {
    tensors: Object.fromEntries(Object.entries(lora.tensors).map(([n, t]) => [`${part}.${n}`, t])),
    metadata: { ...notes, ...diffusersHeader(lora, part) },
  };
}

/** What diffusers writes into the header of an adapter's file, from which it and `readAdapters` take its scales. */
export function diffusersHeader(lora: LoraConfig, part: DenoiserPart = "unet"): Notes {
  const config = Object.fromEntries(
    Object.entries(peftFields(lora)).map(([field, value]) => [`${part}.${field}`, value]),
  );
  return { format: "pt", [METADATA_KEY]: JSON.stringify(config, null, 2) };
}

/** PEFT's configuration of ranks, alphas and targets. Where modules differ in nothing, there are no patterns. */
function peftFields(
  { rank, alpha, targets = [], rankPattern = {}, alphaPattern = {} }: LoraConfig,
): Readonly<Record<string, unknown>> {
  const some = (pattern: Readonly<Record<string, number>>) => Object.keys(pattern).length > 0;
  return {
    lora_alpha: alpha,
    r: rank,
    target_modules: [...targets],
    ...(some(rankPattern) && { rank_pattern: rankPattern }),
    ...(some(alphaPattern) && { alpha_pattern: alphaPattern }),
  };
}

/** The adapter as `PeftModel.save_pretrained` writes it, for `PeftModel.from_pretrained(denoiser, folder)`. */
export function toPeftLora(lora: Lora, notes: Notes = {}): PeftFolder {
  return {
    tensors: Object.fromEntries(
      Object.entries(lora.tensors).map(([n, t]) => [`base_model.model.${n}`, t]),
    ),
    metadata: { ...notes, format: "pt" },
    config: {
      peft_type: "LORA",
      task_type: null,
      base_model_name_or_path: notes["drtune.base_model"] ?? null,
      inference_mode: true,
      bias: "none",
      lora_dropout: 0,
      fan_in_fan_out: false,
      use_rslora: false,
      use_dora: false,
      rank_pattern: {},
      alpha_pattern: {},
      ...peftFields(lora),
    },
  };
}

/**
 * The adapter in the names of kohya's scripts, which web UIs read: `lora_unet_<module, dots as _>.lora_down.weight`,
 * `.lora_up.weight` and a scalar `.alpha` for each layer. A transformer's modules, which those scripts fuse, are
 * `lora_transformer_<diffusers' name, dots as _>`, as OneTrainer writes and ComfyUI reads them.
 */
export function toKohyaLora(lora: Lora, notes: Notes = {}): LoraFile {
  const { rank, alpha, rankPattern = {}, alphaPattern = {} } = lora;
  const tensors: Record<string, Tensor> = {};
  const prefix = KOHYA_PREFIXES[denoiserOf(Object.keys(lora.tensors))];
  const kohyaName = (module: string) => `${prefix}_${module.replaceAll(".", "_")}`;
  for (const [name, tensor] of Object.entries(lora.tensors)) {
    if (name.endsWith(DOWN)) {
      const module = name.slice(0, -DOWN.length);
      const own = Object.entries(alphaPattern).find(([key]) => isTarget(module, key))?.[1];
      const data = Float32Array.of(own ?? alpha);
      tensors[`${kohyaName(module)}.alpha`] = { dtype: "float32", shape: [], data };
      tensors[`${kohyaName(module)}.lora_down.weight`] = tensor;
    } else {
      tensors[`${kohyaName(name.slice(0, -UP.length))}.lora_up.weight`] = tensor;
    }
  }
  // The word that kohya's own resizing script writes where layers differ.
  const shown = (value: number, pattern: object) =>
    Object.keys(pattern).length > 0 ? "Dynamic" : String(value);
  const metadata = {
    ss_network_module: "networks.lora",
    ss_network_dim: shown(rank, rankPattern),
    ss_network_alpha: shown(alpha, alphaPattern),
  };
  return { tensors, metadata: { ...notes, format: "pt", ...metadata } };
}

const KOHYA_PREFIXES = { unet: "lora_unet", transformer: "lora_transformer" } as const;
