import type { Value, ValueType } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import { type Rotation, rotation } from "../rotary.ts";
import { jointAttention, selfAttention } from "./_attention.ts";
import {
  embedding,
  feedForward,
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
import { FLUX_NAMES, transformerModules } from "./_modules.ts";
import { floatType, patchGrid } from "./_sizes.ts";
import type { FluxConfig } from "./flux_config.ts";
import { JOINT_ATTENTION_TARGETS } from "./sd3.ts";
import { TIMESTEP_WIDTH } from "./timestep.ts";
import type {
  FlowTransformer,
  TransformerContext,
  TransformerSegment,
  TransformerSize,
} from "./transformer.ts";

const EPSILON = 1e-6;
const THETA = 10000;
/** Latents lie in blocks of 2 x 2 in a token. */
const PATCH = 2;

/**
 * diffusers' `FluxTransformer2DModel` (Black Forest Labs' FLUX.1), latents as the VAE has them, [B, 16, H, W]. It reads
 * `pooled_projections` [B, pooledWidth] and `encoder_hidden_states` [B, tokens, textWidth] besides, and where it applies
 * guidance by itself `guidance_proj`. Image tokens come first here and last in diffusers, which changes nothing.
 */
export function fluxTransformer(part: Part<FluxConfig>): FlowTransformer {
  const { config } = part;
  const channels = config.packedChannels / PATCH ** 2;
  return {
    part,
    layers: transformerModules(part, FLUX_NAMES),
    targets: JOINT_ATTENTION_TARGETS,
    channels,
    readsGuidance: config.readsGuidance,
    time: (t) => t,
    inputTypes: (size) => fluxInputs(config, size),
    segments: (size) => fluxSegments(config, size),
  };
}

/** Types of the inputs, by name. Throws `RangeError` for latents of no size of its. */
export function fluxInputs(
  config: FluxConfig,
  size: TransformerSize,
): Readonly<Record<string, ValueType>> {
  patchGrid(size, PATCH);
  const channels = config.packedChannels / PATCH ** 2;
  const { batch, height, width, tokens } = size;
  return {
    sample: floatType(batch, channels, height, width),
    timestep_proj: floatType(batch, TIMESTEP_WIDTH),
    ...(config.readsGuidance && { guidance_proj: floatType(batch, TIMESTEP_WIDTH) }),
    encoder_hidden_states: floatType(batch, tokens, config.textWidth),
    pooled_projections: floatType(batch, config.pooledWidth),
  };
}

/** The transformer in segments, which read the names of `fluxInputs`. */
export function fluxSegments(
  config: FluxConfig,
  size: TransformerSize,
): readonly TransformerSegment[] {
  const { heads, headWidth, layers, singleLayers, readsGuidance, packedChannels } = config;
  const width = heads * headWidth;
  const { rows, columns } = patchGrid(size, PATCH);
  const images = rows * columns;
  const turnsOf = ({ b, s }: TransformerContext) =>
    rotation(b, "flux", {
      dtype: s.dtype,
      make: () => ({
        positions: Array.from(
          { length: images + size.tokens },
          (_, i) => i < images ? [0, Math.floor(i / columns), i % columns] : [0, 0, 0],
        ),
        widths: config.axes,
        theta: THETA,
      }),
    });
  const segments: TransformerSegment[] = [
    {
      name: "time_text_embed",
      reads: [
        "timestep_proj",
        ...(readsGuidance ? ["guidance_proj"] : []),
        "pooled_projections",
      ],
      build: (c, read) => {
        const one = (name: string, input: string) =>
          embedding(c, `time_text_embed.${name}_embedder`, { x: read(input), out: width });
        const sum = c.b.total([
          one("timestep", "timestep_proj"),
          ...(readsGuidance ? [one("guidance", "guidance_proj")] : []),
          one("text", "pooled_projections"),
        ]);
        // Every block takes silu of it first.
        return c.b.silu(sum);
      },
    },
    {
      name: "joint",
      reads: ["sample", "encoder_hidden_states"],
      build: (c, read) => {
        const text = { x: read("encoder_hidden_states"), out: width };
        const image = { x: packed(c, read("sample")), out: width };
        return c.b.concat([
          project(c, "x_embedder", image),
          project(c, "context_embedder", text),
        ], 1);
      },
    },
  ];
  let h = "joint";
  const then = (
    name: string,
    build: (c: TransformerContext, x: Value, condition: Value) => Value,
  ) => {
    const before = h;
    segments.push({
      name,
      reads: [before, "time_text_embed"],
      build: (c, read) => build(c, read(before), read("time_text_embed")),
    });
    h = name;
  };
  for (let i = 0; i < layers; i++) {
    const name = `transformer_blocks.${i}`;
    then(
      name,
      (c, x, condition) => doubleBlock(c, name, { x, condition, heads, images, turns: turnsOf(c) }),
    );
  }
  for (let i = 0; i < singleLayers; i++) {
    const name = `single_transformer_blocks.${i}`;
    then(
      name,
      (c, x, condition) => singleBlock(c, name, { x, condition, heads, turns: turnsOf(c) }),
    );
  }
  then("prediction", (c, x, condition) => {
    const norm = scaleAndShift(modulation(c, "norm_out.linear", { condition, width, count: 2 }));
    const last = modulated(c.b, tokensOf(c.b, x, [0, images]), norm);
    return unpacked(c, project(c, "proj_out", { x: last, out: packedChannels }), size);
  });
  return segments;
}

/** Latents [B, C, H, W] as tokens [B, H/2 · W/2, C · 4], channels before the places in a patch. */
function packed({ b }: TransformerContext, x: Value): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [rows, columns] = [height / PATCH, width / PATCH];
  const grid = b.reshape(x, [batch, channels, rows, PATCH, columns, PATCH]);
  return b.reshape(b.transpose(grid, [0, 2, 4, 1, 3, 5]), [
    batch,
    rows * columns,
    channels * PATCH ** 2,
  ]);
}

/** `packed` undone. */
function unpacked(
  { b }: TransformerContext,
  x: Value,
  { height, width }: { readonly height: number; readonly width: number },
): Value {
  const [batch = 1, , packedChannels = 1] = x.shape;
  const channels = packedChannels / PATCH ** 2;
  const grid = b.reshape(x, [batch, height / PATCH, width / PATCH, channels, PATCH, PATCH]);
  return b.reshape(b.transpose(grid, [0, 3, 1, 4, 2, 5]), [batch, channels, height, width]);
}

interface BlockOptions {
  /** [B, images + tokens, C]. */
  readonly x: Value;
  readonly condition: Value;
  readonly heads: number;
  readonly turns: Rotation;
}

/** diffusers' `FluxTransformerBlock`: streams of their own, that attend to one another. */
function doubleBlock(
  c: TransformerContext,
  path: string,
  { x, condition, heads, images, turns }: BlockOptions & { readonly images: number },
): Value {
  const { b } = c;
  const [, tokens = 1, width = 1] = x.shape;
  const [image, text] = [tokensOf(b, x, [0, images]), tokensOf(b, x, [images, tokens])];
  const vectors = (name: string) =>
    inThrees(modulation(c, `${path}.${name}.linear`, { condition, width, count: 6 }));
  const [own, other] = [vectors("norm1"), vectors("norm1_context")];
  const found = jointAttention(c, `${path}.attn`, {
    heads,
    epsilon: EPSILON,
    turns,
    image: modulated(b, image, nth(own, 0)),
    text: modulated(b, text, nth(other, 0)),
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
    const inner = { x: modulated(b, next, nth(m, 1)), width: 4 * width };
    return gated(b, next, { gate: nth(m, 1).gate, y: feedForward(c, `${path}.${name}`, inner) });
  };
  return b.concat([
    rest(image, { name: "ff", attended: found.image, modulations: own }),
    rest(text, { name: "ff_context", attended: found.text ?? text, modulations: other }),
  ], 1);
}

/** diffusers' `FluxSingleTransformerBlock`: attention and MLP of all tokens side by side, one projection after both. */
function singleBlock(
  c: TransformerContext,
  path: string,
  { x, condition, heads, turns }: BlockOptions,
): Value {
  const { b } = c;
  const width = x.shape.at(-1) ?? 1;
  const m = nth(
    inThrees(modulation(c, `${path}.norm.linear`, { condition, width, count: 3 })),
    0,
  );
  const inner = modulated(b, x, m);
  const attended = selfAttention(c, `${path}.attn`, {
    x: inner,
    heads,
    epsilon: EPSILON,
    turns,
  });
  const mlp = b.gelu(project(c, `${path}.proj_mlp`, { x: inner, out: 4 * width }), "tanh");
  const y = project(c, `${path}.proj_out`, { x: b.concat([attended, mlp], 2), out: width });
  return gated(b, x, { gate: m.gate, y });
}
