import type { Tensor } from "../../autodiff/mod.ts";
import { isTarget, type LoraConfig, type LoraTensors } from "./adapter.ts";
import { METADATA_KEY } from "./read_adapter.ts";

/** A trained adapter of a U-Net with its values, under the names of `loraShapes`. */
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

/**
 * The adapter in diffusers' names, `unet.<module>.lora_A.weight`, with the metadata that
 * `StableDiffusionPipeline.save_lora_weights` writes, so that `load_lora_weights` scales it right.
 */
export function toDiffusersLora(lora: Lora, notes: Notes = {}): LoraFile {
  return {
    tensors: Object.fromEntries(Object.entries(lora.tensors).map(([n, t]) => [`unet.${n}`, t])),
    metadata: { ...notes, ...diffusersHeader(lora) },
  };
}

/** What diffusers writes into the header of an adapter's file, from which it and `readAdapters` take its scales. */
export function diffusersHeader(lora: LoraConfig): Notes {
  const config = Object.fromEntries(
    Object.entries(peftFields(lora)).map(([field, value]) => [`unet.${field}`, value]),
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

/** The adapter as `PeftModel.save_pretrained` writes it, for `PeftModel.from_pretrained(unet, folder)`. */
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
 * `.lora_up.weight` and a scalar `.alpha` for each layer.
 */
export function toKohyaLora(lora: Lora, notes: Notes = {}): LoraFile {
  const { rank, alpha, rankPattern = {}, alphaPattern = {} } = lora;
  const tensors: Record<string, Tensor> = {};
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

const kohyaName = (module: string) => `lora_unet_${module.replaceAll(".", "_")}`;
