import type { Shape } from "../../autodiff/mod.ts";
import {
  aestheticHeadShapes,
  clipShapes,
  type ClipSizes,
  openClipShapes,
  owlVitShapes,
} from "./reward_shapes.ts";

/** A file of weights, as its publishers store it. */
export interface RewardFile {
  readonly path: string;
  readonly dtype: "float32" | "float16";
  readonly shapes: ReadonlyMap<string, Shape>;
  /** For PyTorch files: what the state dict lies under. */
  readonly key?: string;
}

/** What one reward is made of on disk, and the record that loads it. */
export interface RewardFolder {
  readonly weights: readonly RewardFile[];
  readonly json: Readonly<Record<string, unknown>>;
  readonly record: Readonly<Record<string, string>>;
}

const H14: ClipSizes = {
  vision: { width: 1280, layers: 32, inner: 5120, image: 224, patch: 14 },
  text: { width: 1024, layers: 24, inner: 4096, context: 77, vocabulary: 49408 },
  joint: 1024,
};

const L14: ClipSizes = {
  vision: { width: 1024, layers: 24, inner: 4096, image: 224, patch: 14 },
  text: { width: 768, layers: 12, inner: 3072, context: 77, vocabulary: 49408 },
  joint: 768,
};

const OWL_B32: ClipSizes = {
  vision: { width: 768, layers: 12, inner: 3072, image: 768, patch: 32 },
  text: { width: 512, layers: 12, inner: 2048, context: 16, vocabulary: 49408 },
  joint: 512,
};

const clipFolder = (sizes: ClipSizes, heads: { vision: number; text: number }, act: string) => ({
  weights: [{ path: "model.safetensors", dtype: "float32", shapes: new Map(clipShapes(sizes)) }],
  json: { "config.json": transformersConfig("clip", sizes, { heads, act }) },
} as const);

/** The rewards whose weights are large, in the formats they are published in. */
export const REWARDS: Readonly<Record<string, RewardFolder>> = {
  hpsv2: {
    weights: [{
      path: "HPS_v2.1_compressed.pt",
      dtype: "float16",
      shapes: new Map(openClipShapes(H14)),
      key: "state_dict",
    }],
    json: {},
    record: { kind: "hpsv2", weights: "HPS_v2.1_compressed.pt" },
  },
  pickscore: {
    ...clipFolder(H14, { vision: 16, text: 16 }, "gelu"),
    record: { kind: "pickscore", weights: "." },
  },
  aesthetic: {
    ...clipFolder(L14, { vision: 16, text: 12 }, "quick_gelu"),
    weights: [
      ...clipFolder(L14, { vision: 16, text: 12 }, "quick_gelu").weights,
      {
        path: "sac+logos+ava1-l14-linearMSE.pth",
        dtype: "float32",
        shapes: new Map(aestheticHeadShapes(L14.joint)),
      },
    ],
    record: { kind: "aesthetic", weights: ".", head: "sac+logos+ava1-l14-linearMSE.pth" },
  },
  owlvit: {
    weights: [{
      path: "model.safetensors",
      dtype: "float32",
      shapes: new Map(owlVitShapes(OWL_B32)),
    }],
    json: {
      "config.json": transformersConfig("owlvit", OWL_B32, {
        heads: { vision: 12, text: 8 },
        act: "quick_gelu",
      }),
    },
    record: { kind: "owlvit", weights: "." },
  },
};

function transformersConfig(
  kind: "clip" | "owlvit",
  { vision, text, joint }: ClipSizes,
  { heads, act }: {
    readonly heads: { readonly vision: number; readonly text: number };
    readonly act: string;
  },
) {
  return {
    architectures: [kind === "clip" ? "CLIPModel" : "OwlViTForObjectDetection"],
    model_type: kind,
    projection_dim: joint,
    vision_config: {
      model_type: `${kind}_vision_model`,
      hidden_act: act,
      hidden_size: vision.width,
      intermediate_size: vision.inner,
      num_hidden_layers: vision.layers,
      num_attention_heads: heads.vision,
      image_size: vision.image,
      patch_size: vision.patch,
    },
    text_config: {
      model_type: `${kind}_text_model`,
      hidden_act: act,
      hidden_size: text.width,
      intermediate_size: text.inner,
      num_hidden_layers: text.layers,
      num_attention_heads: heads.text,
      max_position_embeddings: text.context,
      vocab_size: text.vocabulary,
      bos_token_id: 49406,
      eos_token_id: 49407,
    },
  };
}
