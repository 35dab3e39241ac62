import type { AdaptableLayer } from "./adapter.ts";

/** A network of a pipeline that a LoRA file can change. */
export interface LoraPart {
  readonly name: LoraPartName;
  readonly layers: readonly AdaptableLayer[];
}

/** How files name the networks of a pipeline. A family's denoiser is a row, and so is each of its text encoders. */
export const LORA_PARTS = {
  unet: {
    title: "U-Net",
    dotted: [
      "unet.",
      "unet.base_model.model.",
      "",
      "base_model.model.",
      "diffusion_model.",
      "model.diffusion_model.",
    ],
    flat: ["lora_unet_", "lycoris_unet_", "lycoris_"],
  },
  transformer: {
    title: "transformer",
    dotted: [
      "transformer.",
      "transformer.base_model.model.",
      "",
      "base_model.model.",
      "diffusion_model.",
    ],
    flat: ["lora_transformer_", "lora_unet_", "lycoris_"],
  },
  text_encoder: {
    title: "text encoder",
    dotted: [
      "text_encoder.",
      "text_encoder.base_model.model.",
      "",
      "base_model.model.",
      "text_encoders.clip_l.transformer.",
    ],
    flat: ["lora_te_", "lora_te1_", "lycoris_text_encoder_"],
  },
  text_encoder_2: {
    title: "second text encoder",
    dotted: [
      "text_encoder_2.",
      "text_encoder_2.base_model.model.",
      "",
      "base_model.model.",
      "text_encoders.clip_g.transformer.",
    ],
    flat: ["lora_te2_", "lycoris_text_encoder_2_"],
  },
  text_encoder_3: {
    title: "third text encoder",
    dotted: [
      "text_encoder_3.",
      "text_encoder_3.base_model.model.",
      "text_encoders.t5xxl.transformer.",
    ],
    flat: ["lora_te3_"],
  },
} as const satisfies Record<string, {
  /** Told in messages. */
  readonly title: string;
  /** What stands before a module's name. */
  readonly dotted: readonly string[];
  /** What stands before a module's name with underscores in place of dots. */
  readonly flat: readonly string[];
}>;

/** diffusers' name of a network in a pipeline. */
export type LoraPartName = keyof typeof LORA_PARTS;

/** A module that a name in a file means. */
export interface Target {
  readonly part: LoraPart;
  readonly layer: AdaptableLayer;
  /** The rows of the file's tensors that are this module's; absent: all. */
  readonly rows?: readonly [number, number] | undefined;
  /** Whether it is called by its own name, not by an alias. */
  readonly isOwn: boolean;
}

/** Modules by all names that files have for them. */
export class ModuleIndex {
  readonly #dotted = new Map<string, Target[]>();
  readonly #flat = new Map<string, Target[]>();

  constructor(parts: readonly LoraPart[]) {
    for (const part of parts) {
      const { dotted, flat } = LORA_PARTS[part.name];
      for (const layer of part.layers) {
        for (const { name, rows } of [{ name: layer.name, rows: undefined }, ...layer.aliases]) {
          const target = { part, layer, rows, isOwn: name === layer.name };
          for (const prefix of dotted) add(this.#dotted, prefix + name, target);
          const underscored = name.replaceAll(".", "_");
          for (const prefix of flat) add(this.#flat, prefix + underscored, target);
        }
      }
    }
  }

  /** The modules that a name means, several where a file fuses them; empty where it means none. */
  find(module: string): readonly Target[] {
    const name = module.replace(".processor.", ".").replace(/\.processor$/, "");
    // Some trainers write "to_k_.lora_down": a dot before a name that is empty.
    const flat = module.replaceAll(".", "_").replace(/_$/, "");
    return this.#dotted.get(name) ?? this.#flat.get(flat) ?? [];
  }
}

/** Adds a target, unless another network's module has the name already, or it is the same module by another alias. */
function add(index: Map<string, Target[]>, name: string, target: Target): void {
  const known = index.get(name);
  if (known === undefined) index.set(name, [target]);
  else if (
    known.every((t) => t.part === target.part && t.layer !== target.layer && t.rows !== undefined)
  ) known.push(target);
}
