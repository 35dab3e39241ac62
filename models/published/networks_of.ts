import { Builder, type Shape } from "../../autodiff/mod.ts";
import { clipText, clipTextProjection, clipTextScope, parseClipTextConfig } from "../clip/mod.ts";
import {
  givenChannels,
  parseFlux2VaeConfig,
  parseUNetConfig,
  parseVaeConfig,
  TIME_IDS,
  unet,
  vaeDecode,
} from "../diffusers/mod.ts";
import { qwen3Shapes, t5Shapes, transformerShapes } from "./_flow_shapes.ts";
import type { ModelFiles } from "./model_files.ts";
import { RecordingScope, type WeightShapes } from "./_recording_scope.ts";

/** Where a network's weights lie in a diffusers folder, and what they are. */
export interface NetworkWeights {
  readonly file: string;
  readonly shapes: WeightShapes;
}

/** All networks of a pipeline; a VAE's encoder too, which diffusers wants in the file. */
export function networksOf(files: ModelFiles): readonly NetworkWeights[] {
  const at = (path: string) => files[path] ?? {};
  const texts = ["text_encoder", "text_encoder_2", "text_encoder_3"]
    .filter((name) => `${name}/config.json` in files);
  const diffusion = "diffusion_pytorch_model.safetensors";
  return [
    "unet/config.json" in files
      ? { file: `unet/${diffusion}`, shapes: unetShapes(at("unet/config.json")) }
      : {
        file: `transformer/${diffusion}`,
        shapes: transformerShapes(at("transformer/config.json")),
      },
    { file: `vae/${diffusion}`, shapes: vaeShapes(at("vae/config.json")) },
    ...texts.map((name) => ({
      file: `${name}/model.safetensors`,
      shapes: textShapes(at(`${name}/config.json`)),
    })),
  ];
}

function unetShapes(file: Readonly<Record<string, unknown>>): WeightShapes {
  const config = parseUNetConfig(file, "unet/config.json");
  const { inChannels, contextWidth, textTime, levels } = config;
  const shapes = new Map<string, Shape>();
  const b = new Builder();
  const float = (name: string, shape: Shape) => b.input(name, { dtype: "float32", shape });
  const side = 2 ** (levels.length - 1);
  // A gated layer's halves are one weight: its name is recorded whole.
  unet(new RecordingScope(b, { shapes, lacks: /\.to_[qkv]\.bias$/ }), {
    sample: float("sample", [1, inChannels, side, side]),
    timestep: float("timestep", [1]),
    encoder_hidden_states: float("encoder_hidden_states", [1, 1, contextWidth]),
    ...(textTime && {
      text_embeds: float("text_embeds", [1, textTime.textWidth]),
      time_ids: float("time_ids", [1, TIME_IDS]),
    }),
  }, { config });
  return shapes;
}

function textShapes(file: Readonly<Record<string, unknown>>): WeightShapes {
  if (file.model_type === "t5") return t5Shapes(file);
  if (file.model_type === "qwen3") return qwen3Shapes(file);
  const config = parseClipTextConfig(file, "text_encoder/config.json");
  const shapes = new Map<string, Shape>();
  const b = new Builder();
  const s = new RecordingScope(b, { shapes, lacks: /\.to_[qkv]\.bias$|^text_projection\.bias$/ });
  const ids = b.input("input_ids", { dtype: "int64", shape: [1, config.contextLength] });
  const { pooled } = clipText(clipTextScope(s), ids, config);
  if (String(file.architectures).includes("Projection")) clipTextProjection(s, pooled, config);
  return shapes;
}

function vaeShapes(file: Readonly<Record<string, unknown>>): WeightShapes {
  const parse = file._class_name === "AutoencoderKLFlux2" ? parseFlux2VaeConfig : parseVaeConfig;
  const config = parse(file, "vae/config.json");
  const shapes = new Map<string, Shape>(vaeEncoderShapes(config));
  if (file.use_quant_conv === false) {
    for (const end of ["weight", "bias"]) shapes.delete(`quant_conv.${end}`);
  }
  const b = new Builder();
  const latents = b.input("latents", {
    dtype: "float32",
    shape: [1, givenChannels(config), 1, 1],
  });
  vaeDecode(new RecordingScope(b, { shapes, lacks: /^$/ }), latents, config);
  return shapes;
}

/** The encoder half of diffusers' `AutoencoderKL`, which nothing here runs. */
function* vaeEncoderShapes(
  { channels, layers, latentChannels, middleAttention }: ReturnType<typeof parseVaeConfig>,
): Generator<[string, Shape]> {
  function* layer(path: string, shape: readonly [number, ...number[]]): Generator<[string, Shape]> {
    yield [`${path}.weight`, shape];
    yield [`${path}.bias`, [shape[0]]];
  }
  function* resnet(path: string, from: number, to: number): Generator<[string, Shape]> {
    yield* layer(`${path}.norm1`, [from]);
    yield* layer(`${path}.conv1`, [to, from, 3, 3]);
    yield* layer(`${path}.norm2`, [to]);
    yield* layer(`${path}.conv2`, [to, to, 3, 3]);
    if (from !== to) yield* layer(`${path}.conv_shortcut`, [to, from, 1, 1]);
  }
  let width = channels[0] ?? 1;
  yield* layer("encoder.conv_in", [width, 3, 3, 3]);
  for (const [i, to] of channels.entries()) {
    const path = `encoder.down_blocks.${i}`;
    for (let j = 0; j < layers - 1; j++) {
      yield* resnet(`${path}.resnets.${j}`, width, to);
      width = to;
    }
    if (i < channels.length - 1) {
      yield* layer(`${path}.downsamplers.0.conv`, [width, width, 3, 3]);
    }
  }
  yield* resnet("encoder.mid_block.resnets.0", width, width);
  if (middleAttention) {
    const path = "encoder.mid_block.attentions.0";
    yield* layer(`${path}.group_norm`, [width]);
    for (const end of ["to_q", "to_k", "to_v", "to_out.0"]) {
      yield* layer(`${path}.${end}`, [width, width]);
    }
  }
  yield* resnet("encoder.mid_block.resnets.1", width, width);
  yield* layer("encoder.conv_norm_out", [width]);
  yield* layer("encoder.conv_out", [2 * latentChannels, width, 3, 3]);
  yield* layer("quant_conv", [2 * latentChannels, 2 * latentChannels, 1, 1]);
}
