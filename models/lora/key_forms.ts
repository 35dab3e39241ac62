/** What a tensor of a file is to its module's change. */
export type KeyPart =
  | "down"
  | "up"
  | "mid"
  | "upBias"
  | "alpha"
  | "doraScale"
  | "magnitude"
  | `hada_${"w1_a" | "w1_b" | "w2_a" | "w2_b" | "t1" | "t2"}`
  | `lokr_${"w1" | "w1_a" | "w1_b" | "w2" | "w2_a" | "w2_b" | "t2"}`
  | "diff"
  | "diffBias";

/** An end of tensor names that is read. */
export interface KeyForm {
  readonly end: string;
  readonly part: KeyPart;
  /** Who writes it. */
  readonly writer: string;
}

const pair = (writer: string, down: string, up: string): readonly KeyForm[] => [
  { end: down, part: "down", writer },
  { end: up, part: "up", writer },
];

const LYCORIS = "LyCORIS";

/** Every end of a tensor's name that is read. What stands before it names the module. */
export const KEY_FORMS: readonly KeyForm[] = [
  ...pair("kohya, LyCORIS, OneTrainer", ".lora_down.weight", ".lora_up.weight"),
  ...pair("PEFT, diffusers, ai-toolkit", ".lora_A.weight", ".lora_B.weight"),
  ...pair("PEFT, adapter's name kept", ".lora_A.default.weight", ".lora_B.default.weight"),
  ...pair("diffusers, a live state dict", ".lora_A.default_0.weight", ".lora_B.default_0.weight"),
  ...pair("Mochi's and others' trainers", ".lora_A", ".lora_B"),
  ...pair("diffusers 0.22 to 0.25", ".lora.down.weight", ".lora.up.weight"),
  ...pair("diffusers before 0.22", "_lora.down.weight", "_lora.up.weight"),
  ...pair(
    "diffusers, text encoders",
    ".lora_linear_layer.down.weight",
    ".lora_linear_layer.up.weight",
  ),
  ...pair("XLabs' processors of FLUX.1", ".down.weight", ".up.weight"),
  { end: ".lora_mid.weight", part: "mid", writer: "LyCORIS LoCon" },
  { end: ".lora_B.bias", part: "upBias", writer: "PEFT, lora_bias" },
  { end: ".alpha", part: "alpha", writer: "kohya, LyCORIS, OneTrainer" },
  { end: "_lora.alpha", part: "alpha", writer: "diffusers before 0.22" },
  { end: ".dora_scale", part: "doraScale", writer: "kohya, LyCORIS, OneTrainer" },
  { end: ".lora_magnitude_vector", part: "magnitude", writer: "PEFT, diffusers" },
  { end: ".lora_magnitude_vector.weight", part: "magnitude", writer: "PEFT, diffusers" },
  {
    end: ".lora_magnitude_vector.default.weight",
    part: "magnitude",
    writer: "PEFT, adapter's name kept",
  },
  ...(["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"] as const).map(
    (part) => ({ end: `.${part}`, part, writer: "LyCORIS and PEFT LoHa" }),
  ),
  ...([
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "lokr_t2",
  ] as const).map((part) => ({ end: `.${part}`, part, writer: "LyCORIS and PEFT LoKr" })),
  { end: ".diff", part: "diff", writer: LYCORIS },
  { end: ".diff_b", part: "diffBias", writer: LYCORIS },
  { end: ".w_norm", part: "diff", writer: LYCORIS },
  { end: ".b_norm", part: "diffBias", writer: LYCORIS },
];

/** Tensors that are refused, by what their method is called. */
export const REFUSED_KEYS: readonly { readonly key: RegExp; readonly what: string }[] = [
  { key: /\.(?:oft_|boft_)/, what: "OFT or BOFT (a rotation of the weight)" },
  { key: /\.(?:on_input|ia3_l)\b/, what: "IA3 (a factor on activations)" },
  { key: /\.(?:a1|a2|b1|b2|bm1|bm2)\.weight$/, what: "GLoRA" },
  { key: /\.vera_lambda_/, what: "VeRA" },
  { key: /\.(?:lora_E|ranknum)\b/, what: "AdaLoRA" },
  {
    key: /\.(?:hra_u|fourierft_spectrum|vblora_|shira_|c3a_|randlora_|delora_|gralora_|road_)/,
    what: "an adapter of PEFT's other than LoRA, LoHa and LoKr",
  },
  { key: /^bundle_emb\.|^emb_params$|^string_to_/, what: "a textual inversion embedding" },
  { key: /^(?:unet|text_encoder)[^.]*:\d+:/, what: "cloneofsimo's numbered list" },
  { key: /lora_controlnet|^(?:control_model|controlnet)\b/, what: "a ControlNet" },
  { key: /motion_module/, what: "AnimateDiff's motion module" },
  { key: /\.modules_to_save\b/, what: "a module that PEFT saves in full (modules_to_save)" },
  { key: /\.(?:set_weight|reshape_weight)$/, what: "a weight to be replaced or padded" },
];

/** Modules of other families, by what their names hold. */
const FAMILIES: readonly { readonly module: RegExp; readonly what: string }[] = [
  { module: /double_blocks|single_blocks|single_transformer_blocks/, what: "FLUX" },
  { module: /joint_blocks/, what: "Stable Diffusion 3" },
  { module: /^lora_te3_|^text_encoder_3\b/, what: "a T5 text encoder" },
  { module: /^transformer[._]|^lora_transformer_/, what: "a diffusion transformer" },
  { module: /prior_unet|lora_prior/, what: "Stable Cascade" },
  { module: /(?:^|[._])(?:noise_refiner|context_refiner)/, what: "Z-Image" },
  { module: /^lora_te2_|^text_encoder_2\b|add_embedding|label_emb/, what: "Stable Diffusion XL" },
];

/** The family whose module this could be, with an article where one is due; `undefined` where none is known. */
export function familyOf(module: string): string | undefined {
  return FAMILIES.find(({ module: pattern }) => pattern.test(module))?.what;
}

const BY_LENGTH = KEY_FORMS.toSorted((a, b) => b.end.length - a.end.length);

/** A tensor's name as its module's and what it is there; `undefined` where no form fits. */
export function splitKey(
  key: string,
): { readonly module: string; readonly part: KeyPart } | undefined {
  const form = BY_LENGTH.find(({ end }) => key.endsWith(end));
  return form && { module: key.slice(0, -form.end.length), part: form.part };
}
