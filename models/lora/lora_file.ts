import type { Tensor, TensorOf } from "../../autodiff/mod.ts";
import { toFloat32 } from "../weights/mod.ts";
import {
  type AdaptableLayer,
  endOf,
  isTarget,
  type LoraConfig,
  type LoraTensors,
} from "./adapter.ts";
import { LoraError } from "./lora_error.ts";

/** An adapter with its values. */
export interface Lora extends Required<LoraConfig> {
  readonly tensors: LoraTensors;
}

/** What a safetensors file holds. */
export interface LoraFile {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Where diffusers keeps an adapter's PEFT configuration in a safetensors header, as JSON. */
const METADATA_KEY = "lora_adapter_metadata";
const DOWN = ".lora_A.weight";
const UP = ".lora_B.weight";

/**
 * The adapter in diffusers' names, `unet.<module>.lora_A.weight`, with the metadata that
 * `StableDiffusionPipeline.save_lora_weights` writes, so that `load_lora_weights` scales it right. `notes` are added
 * to the metadata.
 */
export function toDiffusersLora(
  lora: Lora,
  notes: Readonly<Record<string, string>> = {},
): LoraFile {
  return {
    tensors: Object.fromEntries(Object.entries(lora.tensors).map(([n, t]) => [`unet.${n}`, t])),
    metadata: { ...notes, ...diffusersHeader(lora) },
  };
}

/** What diffusers writes into the header of an adapter's file, from which it and `fromLoraFile` take its scale. */
export function diffusersHeader(
  { rank, alpha, targets }: Required<LoraConfig>,
): Readonly<Record<string, string>> {
  const config = {
    "unet.lora_alpha": alpha,
    "unet.r": rank,
    "unet.target_modules": [...targets],
  };
  return { format: "pt", [METADATA_KEY]: JSON.stringify(config, null, 2) };
}

/**
 * The adapter in the names of kohya's scripts, which web UIs read: `lora_unet_<module, dots as _>.lora_down.weight`,
 * `.lora_up.weight` and a scalar `.alpha` for each layer. `notes` are added to the metadata.
 */
export function toKohyaLora(lora: Lora, notes: Readonly<Record<string, string>> = {}): LoraFile {
  const tensors: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(lora.tensors)) {
    if (name.endsWith(DOWN)) {
      const module = kohyaName(name.slice(0, -DOWN.length));
      tensors[`${module}.alpha`] = {
        dtype: "float32",
        shape: [],
        data: Float32Array.of(lora.alpha),
      };
      tensors[`${module}.lora_down.weight`] = tensor;
    } else {
      tensors[`${kohyaName(name.slice(0, -UP.length))}.lora_up.weight`] = tensor;
    }
  }
  const metadata = {
    ss_network_module: "networks.lora",
    ss_network_dim: String(lora.rank),
    ss_network_alpha: String(lora.alpha),
  };
  return { tensors, metadata: { ...notes, format: "pt", ...metadata } };
}

const kohyaName = (module: string) => `lora_unet_${module.replaceAll(".", "_")}`;

/**
 * Reads an adapter in diffusers' or PEFT's names, old or new, or in kohya's, of any float dtype, for a U-Net with these layers.
 * The scale comes from kohya's `.alpha` tensors, else from diffusers' metadata, else from `alpha` (PEFT keeps it in a
 * file of its own), else it is 1, as diffusers has it. Where kohya's alphas differ, they are worked into B.
 *
 * Throws `LoraError` naming `path` and the tensor: for one that belongs to no layer (a text encoder's, a
 * convolution's), a half without its other half, a shape that does not fit, a rank that differs between layers, and
 * for kinds of adapters that a plain product does not describe (DoRA, rsLoRA).
 */
export function fromLoraFile(
  { tensors, metadata }: LoraFile,
  { layers, path, alpha }: {
    readonly layers: readonly AdaptableLayer[];
    readonly path: string;
    readonly alpha?: number;
  },
): Lora {
  const slots = slotsOf(layers);
  const found = new Map<AdaptableLayer, Partial<Record<Part, TensorOf<"float32">>>>();
  for (const [name, tensor] of Object.entries(tensors)) {
    const slot = slots.get(name);
    if (slot === undefined) {
      throw new LoraError(path, `tensor "${name}" belongs to no adaptable layer of this U-Net`);
    }
    found.set(slot.layer, { ...found.get(slot.layer), [slot.part]: float(tensor, name, path) });
  }
  const [first] = found.values();
  const rank = first?.down?.shape[0] ?? first?.up?.shape[1];
  if (rank === undefined) throw new LoraError(path, "holds no LoRA tensor");
  const common = alphaOf(metadata, path) ?? alpha ?? rank;
  const alphas = new Set([...found.values()].map((parts) => parts.alpha?.data[0] ?? common));
  const [only = rank] = alphas;
  const kept = alphas.size === 1 ? only : rank;
  const out: Record<string, TensorOf<"float32">> = {};
  for (const layer of layers) {
    const parts = found.get(layer);
    if (parts === undefined) continue;
    const half = (part: "down" | "up", shape: readonly [number, number]) => {
      const t = parts[part];
      const shown = t === undefined ? "missing" : `[${t.shape}]`;
      if (t !== undefined && shown === `[${shape}]`) return { ...t, shape };
      const label = part === "down" ? "lora_A" : "lora_B";
      throw new LoraError(path, `${label} of "${layer.name}" is ${shown}, expected [${shape}]`);
    };
    const factor = (parts.alpha?.data[0] ?? common) / kept;
    const up = half("up", [layer.out, rank]);
    out[layer.name + DOWN] = half("down", [rank, layer.in]);
    out[layer.name + UP] = factor === 1 ? up : { ...up, data: up.data.map((v) => v * factor) };
  }
  return { rank, alpha: kept, targets: targetsOf([...found.keys()], layers), tensors: out };
}

type Part = "down" | "up" | "alpha";

/** Every name a tensor of these layers can have in a file. */
function slotsOf(layers: readonly AdaptableLayer[]) {
  const slots = new Map<string, { readonly layer: AdaptableLayer; readonly part: Part }>();
  for (const layer of layers) {
    for (const prefix of ["unet.", "", "base_model.model."]) {
      slots.set(prefix + layer.name + DOWN, { layer, part: "down" });
      slots.set(prefix + layer.name + UP, { layer, part: "up" });
    }
    // diffusers before 0.22, whose attention processors held the adapters.
    const processor = layer.name.replace(/\.(to_[a-z]+)(\.0)?$/, ".processor.$1_lora");
    for (const module of [`${layer.name}.lora`, `${layer.name}.lora_linear_layer`, processor]) {
      slots.set(`unet.${module}.down.weight`, { layer, part: "down" });
      slots.set(`unet.${module}.up.weight`, { layer, part: "up" });
    }
    for (const module of [kohyaName(layer.name), kohyaName(layer.originalName)]) {
      slots.set(`${module}.lora_down.weight`, { layer, part: "down" });
      slots.set(`${module}.lora_up.weight`, { layer, part: "up" });
      slots.set(`${module}.alpha`, { layer, part: "alpha" });
    }
  }
  return slots;
}

function float(tensor: Tensor, name: string, path: string): TensorOf<"float32"> {
  try {
    return toFloat32(tensor);
  } catch (cause) {
    throw new LoraError(path, `tensor "${name}" is ${tensor.dtype}, expected a float dtype`, {
      cause,
    });
  }
}

/** The scale in diffusers' metadata, `undefined` where there is none. */
function alphaOf(metadata: Readonly<Record<string, string>>, path: string): number | undefined {
  const text = metadata[METADATA_KEY];
  if (text === undefined) return undefined;
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new LoraError(path, `metadata "${METADATA_KEY}" is not valid JSON`, { cause });
  }
  const field = (name: string): unknown =>
    typeof config === "object" && config !== null ? Reflect.get(config, `unet.${name}`) : undefined;
  for (const name of ["use_dora", "use_rslora", "alpha_pattern", "rank_pattern", "lora_bias"]) {
    const value = field(name) ?? false;
    if (value !== false && JSON.stringify(value) !== "{}") {
      throw new LoraError(path, `"unet.${name}" is ${JSON.stringify(value)}, expected none`);
    }
  }
  const alpha = field("lora_alpha");
  if (typeof alpha === "number" && Number.isFinite(alpha) && alpha > 0) return alpha;
  throw new LoraError(path, `"unet.lora_alpha" is ${JSON.stringify(alpha)}, expected a number`);
}

/** Ends of names where they mean the adapted layers and no other, else the names themselves. */
function targetsOf(
  adapted: readonly AdaptableLayer[],
  layers: readonly AdaptableLayer[],
): readonly string[] {
  const ends = [...new Set(adapted.map(({ name }) => endOf(name)))];
  const meant = layers.filter(({ name }) => ends.some((end) => isTarget(name, end)));
  return meant.length === adapted.length ? ends : adapted.map(({ name }) => name);
}
