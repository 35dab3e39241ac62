import type { Value, ValueType } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import { rmsNorm } from "../nn.ts";
import { type Rotation, rotation } from "../rotary.ts";
import { selfAttention } from "./_attention.ts";
import { gated, modulation, plainNorm, project, tokensOf, unpatchify } from "./_layers.ts";
import { transformerModules, Z_IMAGE_NAMES } from "./_modules.ts";
import { floatType, patchGrid } from "./_sizes.ts";
import { TIMESTEP_WIDTH } from "./timestep.ts";
import type {
  FlowTransformer,
  TransformerContext,
  TransformerSegment,
  TransformerSize,
} from "./transformer.ts";
import type { ZImageConfig } from "./z_image_config.ts";

const PATCH = 2;
/** Image and text tokens are filled up to multiples of it. */
const MULTIPLE = 32;
/** Of queries and keys, whatever the configuration says of the others. */
const HEAD_EPSILON = 1e-5;
const FINAL_EPSILON = 1e-6;
const TIME_HIDDEN = 1024;
/** The only sizes of patches, as modules are named after them. */
const SIZES = "2-1";

/**
 * diffusers' `ZImageTransformer2DModel` (Alibaba's Z-Image) without its reference images. It reads
 * `encoder_hidden_states` [B, tokens, textWidth] and `encoder_mask` [B, tokens, 1] besides, where tokens are a multiple
 * of 32 and the mask is 1 up to the caption's end, then 0: a learned token stands there, and is attended to. Time is
 * 1000 - t, and what it gives is negated, so that the velocity is dx / d sigma as in the other families.
 */
export function zImageTransformer(part: Part<ZImageConfig>): FlowTransformer {
  const { config } = part;
  return {
    part,
    layers: transformerModules(part, Z_IMAGE_NAMES),
    targets: ["to_q", "to_k", "to_v", "to_out.0"],
    channels: config.channels,
    readsGuidance: false,
    time: (t) => (1000 - t) / 1000 * config.timeScale,
    textTokens: (count) => MULTIPLE * Math.ceil(count / MULTIPLE),
    inputTypes: (size) => zImageInputs(config, size),
    segments: (size) => zImageSegments(config, size),
  };
}

function checkSize({ lengths }: ZImageConfig, size: TransformerSize): void {
  const { rows, columns } = patchGrid(size, PATCH);
  const wanted = [size.tokens + 2, rows, columns];
  const wrong = wanted.findIndex((n, axis) => n > (lengths[axis] ?? 0));
  if (wrong < 0) return;
  const what = ["Text tokens and two", "Rows of patches", "Columns of patches"][wrong];
  throw new RangeError(`${what} are ${wanted[wrong]}, expected at most ${lengths[wrong]}`);
}

/** Types of the inputs, by name. Throws `RangeError` for latents of no size of its. */
export function zImageInputs(
  config: ZImageConfig,
  size: TransformerSize,
): Readonly<Record<string, ValueType>> {
  checkSize(config, size);
  const { batch, height, width, tokens } = size;
  return {
    sample: floatType(batch, config.channels, height, width),
    timestep_proj: floatType(batch, TIMESTEP_WIDTH),
    encoder_hidden_states: floatType(batch, tokens, config.textWidth),
    encoder_mask: floatType(batch, tokens, 1),
  };
}

/** The transformer in segments, which read the names of `zImageInputs`. */
export function zImageSegments(
  config: ZImageConfig,
  size: TransformerSize,
): readonly TransformerSegment[] {
  const { width, channels, refinerLayers, layers } = config;
  const { rows, columns } = patchGrid(size, PATCH);
  const patches = rows * columns;
  const images = MULTIPLE * Math.ceil(patches / MULTIPLE);
  const { tokens } = size;
  /** Rotations of the image's tokens, then the text's. */
  const turnsOf = ({ b, s }: TransformerContext) =>
    rotation(b, "z-image", {
      dtype: s.dtype,
      make: () => ({
        positions: Array.from({ length: images + tokens }, (_, i) =>
          i >= images
            ? [1 + i - images, 0, 0]
            : i < patches
            ? [1 + tokens, Math.floor(i / columns), i % columns]
            : [0, 0, 0]),
        widths: config.axes,
        theta: config.theta,
      }),
    });
  const some = (c: TransformerContext, range: readonly [number, number]): Rotation => {
    const { cos, sin } = turnsOf(c);
    return { cos: tokensOf(c.b, cos, range), sin: tokensOf(c.b, sin, range) };
  };
  const segments: TransformerSegment[] = [];
  const add = (
    name: string,
    reads: readonly string[],
    build: TransformerSegment["build"],
  ): string => {
    segments.push({ name, reads, build });
    return name;
  };
  const time = add("t_embedder", ["timestep_proj"], (c, read) => {
    const first = project(c, "t_embedder.mlp.0", { x: read("timestep_proj"), out: TIME_HIDDEN });
    const out = Math.min(width, TIMESTEP_WIDTH);
    return project(c, "t_embedder.mlp.2", { x: c.b.silu(first), out });
  });
  let image = add("x_embedder", ["sample"], (c, read) => {
    const x = patchify(c, read("sample"));
    const embedded = project(c, `all_x_embedder.${SIZES}`, { x, out: width });
    if (images === patches) return embedded;
    const pad = c.s.get("x_pad_token", [1, width], [1, 1, width]);
    const shape = [size.batch, images - patches, width];
    return c.b.concat([embedded, c.b.expand(pad, shape)], 1);
  });
  let text = add("cap_embedder", ["encoder_hidden_states", "encoder_mask"], (c, read) => {
    const { b, s } = c;
    const normed = rmsNorm(s.at("cap_embedder.0"), read("encoder_hidden_states"), config.epsilon);
    const embedded = project(c, "cap_embedder.1", { x: normed, out: width });
    const pad = s.get("cap_pad_token", [1, width], [1, 1, width]);
    const mask = read("encoder_mask");
    return b.add(b.mul(mask, embedded), b.mul(b.sub(1, mask), pad));
  });
  for (let i = 0; i < refinerLayers; i++) {
    const before = image;
    const name = `noise_refiner.${i}`;
    image = add(
      name,
      [before, time],
      (c, read) =>
        block(c, name, {
          x: read(before),
          condition: read(time),
          config,
          turns: some(c, [0, images]),
        }),
    );
  }
  for (let i = 0; i < refinerLayers; i++) {
    const before = text;
    const name = `context_refiner.${i}`;
    text = add(name, [before], (c, read) => {
      const turns = some(c, [images, images + tokens]);
      return block(c, name, { x: read(before), config, turns });
    });
  }
  const [lastImage, lastText] = [image, text];
  let h = add(
    "joint",
    [lastImage, lastText],
    (c, read) => c.b.concat([read(lastImage), read(lastText)], 1),
  );
  for (let i = 0; i < layers; i++) {
    const before = h;
    const name = `layers.${i}`;
    h = add(
      name,
      [before, time],
      (c, read) =>
        block(c, name, {
          x: read(before),
          condition: read(time),
          config,
          turns: turnsOf(c),
        }),
    );
  }
  const last = h;
  add("prediction", [last, time], (c, read) => {
    const { b } = c;
    const path = `all_final_layer.${SIZES}`;
    const [scale] = modulation(c, `${path}.adaLN_modulation.1`, {
      condition: b.silu(read(time)),
      width,
      count: 1,
    });
    if (scale === undefined) throw new RangeError("A scale is missing");
    const normed = plainNorm(b, tokensOf(b, read(last), [0, patches]), FINAL_EPSILON);
    const x = b.mul(normed, b.add(scale, 1));
    const y = project(c, `${path}.linear`, { x, out: PATCH ** 2 * channels });
    return b.neg(unpatchify(b, y, { ...size, patch: PATCH }));
  });
  return segments;
}

/** Latents [B, C, H, W] as tokens [B, H/2 · W/2, 4 · C], channels after the places in a patch. */
function patchify({ b }: TransformerContext, x: Value): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [rows, columns] = [height / PATCH, width / PATCH];
  const grid = b.reshape(x, [batch, channels, rows, PATCH, columns, PATCH]);
  return b.reshape(b.transpose(grid, [0, 2, 4, 3, 5, 1]), [
    batch,
    rows * columns,
    PATCH ** 2 * channels,
  ]);
}

/** diffusers' `ZImageTransformerBlock`, modulated where there is a condition. */
function block(
  c: TransformerContext,
  path: string,
  { x, condition, config, turns }: {
    readonly x: Value;
    readonly condition?: Value;
    readonly config: ZImageConfig;
    readonly turns: Rotation;
  },
): Value {
  const { b, s } = c;
  const { width, heads, epsilon } = config;
  const vectors = condition === undefined
    ? []
    : modulation(c, `${path}.adaLN_modulation.0`, { condition, width, count: 4 });
  const norm = (name: string, y: Value) => rmsNorm(s.at(`${path}.${name}`), y, epsilon);
  const scaled = (y: Value, i: number) => {
    const scale = vectors[i];
    return scale === undefined ? y : b.mul(y, b.add(scale, 1));
  };
  const added = (y: Value, i: number, more: Value) => {
    const gate = vectors[i];
    return gate === undefined ? b.add(y, more) : gated(b, y, { gate: b.tanh(gate), y: more });
  };
  const found = selfAttention(c, `${path}.attention`, {
    x: scaled(norm("attention_norm1", x), 0),
    heads,
    epsilon: HEAD_EPSILON,
    turns,
  });
  const attended = added(
    x,
    1,
    norm("attention_norm2", project(c, `${path}.attention.to_out.0`, { x: found, out: width })),
  );
  const mlp = (name: string, y: Value, out: number) =>
    project(c, `${path}.feed_forward.${name}`, { x: y, out });
  const inner = scaled(norm("ffn_norm1", attended), 2);
  const hidden = mlpWidth(width);
  const both = b.mul(b.silu(mlp("w1", inner, hidden)), mlp("w3", inner, hidden));
  return added(attended, 3, norm("ffn_norm2", mlp("w2", both, width)));
}

/** Width of an MLP's hidden layer. */
function mlpWidth(width: number): number {
  return Math.trunc(width / 3 * 8);
}
