import type { Value, ValueType } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import { type Rotation, rotation } from "../rotary.ts";
import { headsOf, jointAttention } from "./_attention.ts";
import {
  embedding,
  gated,
  inThrees,
  modulated,
  type Modulation,
  modulation,
  nth,
  project,
  scaleAndShift,
  tokensOf,
} from "./_layers.ts";
import { FLUX2_NAMES, transformerModules } from "./_modules.ts";
import { floatType } from "./_sizes.ts";
import type { Flux2Config } from "./flux2_config.ts";
import { JOINT_ATTENTION_TARGETS } from "./sd3.ts";
import { TIMESTEP_WIDTH } from "./timestep.ts";
import type {
  FlowTransformer,
  TransformerContext,
  TransformerSegment,
  TransformerSize,
} from "./transformer.ts";

/** Modulations that all blocks of a kind share, by the segments that make them, and how many vectors each has. */
const SHARED = {
  double_stream_modulation_img: 6,
  double_stream_modulation_txt: 6,
  single_stream_modulation: 3,
} as const;

/**
 * diffusers' `Flux2Transformer2DModel` (Black Forest Labs' FLUX.2, of which Klein reads no guidance). Latents lie in
 * patches already, [B, 128, H, W], normalized as the VAE's `bn` says. It reads `encoder_hidden_states`
 * [B, tokens, textWidth] besides. No layer has a bias.
 */
export function flux2Transformer(part: Part<Flux2Config>): FlowTransformer {
  const { config } = part;
  return {
    part,
    layers: transformerModules(part, FLUX2_NAMES),
    targets: [
      ...JOINT_ATTENTION_TARGETS,
      "to_qkv_mlp_proj",
      // By their whole names: "to_out" alone would mean the double blocks' too, in PEFT.
      ...Array.from(
        { length: config.singleLayers },
        (_, i) => `single_transformer_blocks.${i}.attn.to_out`,
      ),
    ],
    channels: config.channels,
    readsGuidance: config.readsGuidance,
    time: (t) => t,
    inputTypes: (size) => flux2Inputs(config, size),
    segments: (size) => flux2Segments(config, size),
  };
}

/** Types of the inputs, by name. */
export function flux2Inputs(
  config: Flux2Config,
  { batch, height, width, tokens }: TransformerSize,
): Readonly<Record<string, ValueType>> {
  return {
    sample: floatType(batch, config.channels, height, width),
    timestep_proj: floatType(batch, TIMESTEP_WIDTH),
    ...(config.readsGuidance && { guidance_proj: floatType(batch, TIMESTEP_WIDTH) }),
    encoder_hidden_states: floatType(batch, tokens, config.textWidth),
  };
}

/** The transformer in segments, which read the names of `flux2Inputs`. */
export function flux2Segments(
  config: Flux2Config,
  size: TransformerSize,
): readonly TransformerSegment[] {
  const { heads, headWidth, layers, singleLayers, readsGuidance, channels } = config;
  const width = heads * headWidth;
  const images = size.height * size.width;
  const turnsOf = ({ b, s }: TransformerContext) =>
    rotation(b, "flux2", {
      dtype: s.dtype,
      make: () => ({
        positions: Array.from(
          { length: images + size.tokens },
          (_, i) =>
            i < images ? [0, Math.floor(i / size.width), i % size.width, 0] : [0, 0, 0, i - images],
        ),
        widths: config.axes,
        theta: config.theta,
      }),
    });
  const path = "time_guidance_embed";
  const segments: TransformerSegment[] = [
    {
      name: path,
      reads: ["timestep_proj", ...(readsGuidance ? ["guidance_proj"] : [])],
      build: (c, read) => {
        const time = { x: read("timestep_proj"), out: width };
        const embedded = embedding(c, `${path}.timestep_embedder`, time);
        if (!readsGuidance) return c.b.silu(embedded);
        const scale = { x: read("guidance_proj"), out: width };
        return c.b.silu(c.b.add(embedded, embedding(c, `${path}.guidance_embedder`, scale)));
      },
    },
    ...Object.entries(SHARED).map(([name, count]): TransformerSegment => ({
      name,
      reads: [path],
      build: (c, read) => project(c, `${name}.linear`, { x: read(path), out: count * width }),
    })),
    {
      name: "joint",
      reads: ["sample", "encoder_hidden_states"],
      build: (c, read) => {
        const grid = c.b.reshape(read("sample"), [size.batch, channels, images]);
        const text = { x: read("encoder_hidden_states"), out: width };
        return c.b.concat([
          project(c, "x_embedder", { x: c.b.transpose(grid, [0, 2, 1]), out: width }),
          project(c, "context_embedder", text),
        ], 1);
      },
    },
  ];
  let h = "joint";
  const then = (
    name: string,
    { reads, build }: {
      readonly reads: readonly string[];
      readonly build: (c: TransformerContext, x: Value, read: (name: string) => Value) => Value;
    },
  ) => {
    const before = h;
    segments.push({
      name,
      reads: [before, ...reads],
      build: (c, read) => build(c, read(before), read),
    });
    h = name;
  };
  for (let i = 0; i < layers; i++) {
    const name = `transformer_blocks.${i}`;
    then(name, {
      reads: ["double_stream_modulation_img", "double_stream_modulation_txt"],
      build: (c, x, read) =>
        doubleBlock(c, name, {
          x,
          config,
          images,
          turns: turnsOf(c),
          own: threesOf(c, read("double_stream_modulation_img"), width),
          other: threesOf(c, read("double_stream_modulation_txt"), width),
        }),
    });
  }
  for (let i = 0; i < singleLayers; i++) {
    const name = `single_transformer_blocks.${i}`;
    then(name, {
      reads: ["single_stream_modulation"],
      build: (c, x, read) => {
        const m = nth(threesOf(c, read("single_stream_modulation"), width), 0);
        return singleBlock(c, name, { x, config, turns: turnsOf(c), m });
      },
    });
  }
  then("prediction", {
    reads: [path],
    build: (c, x, read) => {
      const options = { condition: read(path), width, count: 2 };
      const norm = scaleAndShift(modulation(c, "norm_out.linear", options));
      const last = modulated(c.b, tokensOf(c.b, x, [0, images]), {
        ...norm,
        epsilon: config.epsilon,
      });
      const y = project(c, "proj_out", { x: last, out: channels });
      return c.b.reshape(c.b.transpose(y, [0, 2, 1]), [
        size.batch,
        channels,
        size.height,
        size.width,
      ]);
    },
  });
  return segments;
}

/** A shared modulation [B, 3 n · width] as `n` modulations. */
function threesOf({ b }: TransformerContext, all: Value, width: number): readonly Modulation[] {
  const [batch = 1, length = 1] = all.shape;
  const rows = b.reshape(all, [batch, 1, length]);
  return inThrees(b.split(rows, Array.from({ length: length / width }, () => width), 2));
}

interface BlockOptions {
  /** [B, images + tokens, C]. */
  readonly x: Value;
  readonly config: Flux2Config;
  readonly turns: Rotation;
}

/** diffusers' `Flux2TransformerBlock`: streams of their own, that attend to one another. */
function doubleBlock(
  c: TransformerContext,
  path: string,
  { x, config, images, turns, own, other }: BlockOptions & {
    readonly images: number;
    readonly own: readonly Modulation[];
    readonly other: readonly Modulation[];
  },
): Value {
  const { b } = c;
  const { heads, epsilon, mlpWidth } = config;
  const [, tokens = 1, width = 1] = x.shape;
  const [image, text] = [tokensOf(b, x, [0, images]), tokensOf(b, x, [images, tokens])];
  const before = (y: Value, m: Modulation) => modulated(b, y, { ...m, epsilon });
  const found = jointAttention(c, `${path}.attn`, {
    heads,
    epsilon,
    turns,
    image: before(image, nth(own, 0)),
    text: before(text, nth(other, 0)),
    asksText: true,
  });
  const rest = (
    y: Value,
    { name, attended, modulations: m }: {
      readonly name: string;
      readonly attended: Value;
      readonly modulations: readonly Modulation[];
    },
  ) => {
    const next = gated(b, y, { gate: nth(m, 0).gate, y: attended });
    const wide = project(c, `${path}.${name}.linear_in`, {
      x: before(next, nth(m, 1)),
      out: 2 * mlpWidth,
    });
    const inner = swiGlu(c, b.split(wide, [mlpWidth, mlpWidth], 2));
    const out = project(c, `${path}.${name}.linear_out`, { x: inner, out: width });
    return gated(b, next, { gate: nth(m, 1).gate, y: out });
  };
  return b.concat([
    rest(image, { name: "ff", attended: found.image, modulations: own }),
    rest(text, { name: "ff_context", attended: found.text ?? text, modulations: other }),
  ], 1);
}

/** diffusers' `Flux2SingleTransformerBlock`: attention and MLP of all tokens between one projection before and one after. */
function singleBlock(
  c: TransformerContext,
  path: string,
  { x, config, turns, m }: BlockOptions & { readonly m: Modulation },
): Value {
  const { b } = c;
  const { heads, epsilon, mlpWidth } = config;
  const width = x.shape.at(-1) ?? 1;
  const wide = project(c, `${path}.attn.to_qkv_mlp_proj`, {
    x: modulated(b, x, { ...m, epsilon }),
    out: 3 * width + 2 * mlpWidth,
  });
  const [q, k, v, ...mlp] = b.split(wide, [width, width, width, mlpWidth, mlpWidth], 2);
  if (q === undefined || k === undefined || v === undefined) throw new RangeError("No attention");
  const options = { heads, epsilon, turns };
  const attended = b.attention(
    headsOf(c, `${path}.attn.norm_q`, { y: q, ...options }),
    headsOf(c, `${path}.attn.norm_k`, { y: k, ...options }),
    v,
    { heads },
  );
  const both = b.concat([attended, swiGlu(c, mlp)], 2);
  return gated(b, x, {
    gate: m.gate,
    y: project(c, `${path}.attn.to_out`, { x: both, out: width }),
  });
}

/** silu of the first half times the second. */
function swiGlu({ b }: TransformerContext, [gate, linear]: readonly Value[]): Value {
  if (gate === undefined || linear === undefined) throw new RangeError("A half is missing");
  return b.mul(b.silu(gate), linear);
}
