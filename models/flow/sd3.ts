import type { Value, ValueType } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import { conv2d } from "../nn.ts";
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
  unpatchify,
} from "./_layers.ts";
import { SD3_NAMES, transformerModules } from "./_modules.ts";
import { floatType, patchGrid } from "./_sizes.ts";
import type { SD3Config } from "./sd3_config.ts";
import { TIMESTEP_WIDTH } from "./timestep.ts";
import type {
  FlowTransformer,
  TransformerContext,
  TransformerSegment,
  TransformerSize,
} from "./transformer.ts";

const EPSILON = 1e-6;

/** The attentions' projections, as diffusers' training scripts adapt them. */
export const JOINT_ATTENTION_TARGETS: readonly string[] = [
  ...["to_q", "to_k", "to_v", "to_out.0"],
  ...["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"],
];

/**
 * diffusers' `SD3Transformer2DModel` (Esser et al., arXiv 2403.03206; 3.5's second attentions and normalized queries
 * and keys where the configuration and the state dict have them). It reads `encoder_hidden_states` [B, tokens, textWidth]
 * and `pooled_projections` [B, pooledWidth] besides. Timesteps are 1000 sigma.
 */
export function sd3Transformer(part: Part<SD3Config>): FlowTransformer {
  const { config } = part;
  return {
    part,
    layers: transformerModules(part, SD3_NAMES),
    targets: JOINT_ATTENTION_TARGETS,
    channels: config.channels,
    readsGuidance: false,
    time: (t) => t,
    // Text has no positions here, so that equal tokens stay equal. A mask keeps attention out of blocks and fused
    // kernels: where other tokens are as many, it costs more than it saves.
    joinsEqual: (size, equal) => {
      const { rows, columns } = gridOf(config, size);
      return 2 * equal > rows * columns + size.tokens;
    },
    inputTypes: (size) => sd3Inputs(config, size),
    segments: (size) => sd3Segments(config, size),
  };
}

/** Rows and columns of patches. */
function gridOf({ patch, positions }: SD3Config, size: TransformerSize) {
  const grid = patchGrid(size, patch);
  if (Math.max(grid.rows, grid.columns) > positions) {
    throw new RangeError(
      `Latents of ${size.height}x${size.width} are ${grid.rows}x${grid.columns} patches, ` +
        `expected at most ${positions} along each side`,
    );
  }
  return grid;
}

/** Types of the inputs, by name. Throws `RangeError` for latents of no size of its. */
export function sd3Inputs(
  config: SD3Config,
  size: TransformerSize,
): Readonly<Record<string, ValueType>> {
  gridOf(config, size);
  const { batch, height, width, tokens } = size;
  return {
    sample: floatType(batch, config.channels, height, width),
    timestep_proj: floatType(batch, TIMESTEP_WIDTH),
    encoder_hidden_states: floatType(batch, tokens, config.textWidth),
    pooled_projections: floatType(batch, config.pooledWidth),
  };
}

/** The transformer in segments, which read the names of `sd3Inputs`. */
export function sd3Segments(
  config: SD3Config,
  size: TransformerSize,
): readonly TransformerSegment[] {
  const { heads, headWidth, layers, patch } = config;
  const width = heads * headWidth;
  const { rows, columns } = gridOf(config, size);
  const images = rows * columns;
  const segments: TransformerSegment[] = [
    {
      name: "time_text_embed",
      reads: ["timestep_proj", "pooled_projections"],
      build: (c, read) => {
        const path = "time_text_embed";
        const time = { x: read("timestep_proj"), out: width };
        const text = { x: read("pooled_projections"), out: width };
        const sum = c.b.add(
          embedding(c, `${path}.timestep_embedder`, time),
          embedding(c, `${path}.text_embedder`, text),
        );
        // Every block takes silu of it first.
        return c.b.silu(sum);
      },
    },
    {
      name: "joint",
      reads: ["sample", "encoder_hidden_states"],
      build: (c, read) => {
        const text = { x: read("encoder_hidden_states"), out: width };
        return c.b.concat([
          patches(c, read("sample"), { config, rows, columns }),
          project(c, "context_embedder", text),
        ], 1);
      },
    },
  ];
  let h = "joint";
  for (let i = 0; i < layers; i++) {
    const before = h;
    const name = `transformer_blocks.${i}`;
    segments.push({
      name,
      reads: [before, "time_text_embed"],
      build: (c, read) =>
        jointBlock(c, name, {
          x: read(before),
          condition: read("time_text_embed"),
          heads,
          images,
          isDual: config.dualLayers.has(i),
          isLast: i === layers - 1,
          equal: size.equal ?? 1,
        }),
    });
    h = name;
  }
  const last = h;
  segments.push({
    name: "prediction",
    reads: [last, "time_text_embed"],
    build: (c, read) => {
      const condition = read("time_text_embed");
      const options = { condition, width, count: 2 };
      const norm = scaleAndShift(modulation(c, "norm_out.linear", options));
      const x = modulated(c.b, tokensOf(c.b, read(last), [0, images]), norm);
      const out = patch * patch * config.channels;
      return unpatchify(c.b, project(c, "proj_out", { x, out }), { ...size, patch });
    },
  });
  return segments;
}

/** Patches as tokens, [B, rows · columns, width], with the middle of the table of positions added. */
function patches(
  { b, s }: TransformerContext,
  sample: Value,
  { config, rows, columns }: {
    readonly config: SD3Config;
    readonly rows: number;
    readonly columns: number;
  },
): Value {
  const { patch, positions, heads, headWidth } = config;
  const width = heads * headWidth;
  const options = { out: width, kernel: patch, stride: patch, padding: 0 };
  const grid = conv2d(s.at("pos_embed.proj"), sample, options);
  const flat = b.reshape(grid, [sample.shape[0] ?? 1, width, rows * columns]);
  const middle = (n: number): readonly [number, number] => {
    const start = Math.floor((positions - n) / 2);
    return [start, start + n];
  };
  const table = s.at("pos_embed").grid(
    "pos_embed",
    { height: positions, width: positions, channels: width },
    { rows: middle(rows), columns: middle(columns) },
  );
  return b.add(b.transpose(flat, [0, 2, 1]), table);
}

/**
 * diffusers' `JointTransformerBlock` of x [B, images + tokens, C], image first; the last block gives the image alone
 * and does not need what queries of the text find.
 */
function jointBlock(
  c: TransformerContext,
  path: string,
  { x, condition, heads, images, isDual, isLast, equal }: {
    readonly x: Value;
    readonly condition: Value;
    readonly heads: number;
    readonly images: number;
    readonly isDual: boolean;
    readonly isLast: boolean;
    /** How many equal tokens the last one stands for. */
    readonly equal: number;
  },
): Value {
  const { b, s } = c;
  const [, tokens = 1, width = 1] = x.shape;
  const [image, text] = [tokensOf(b, x, [0, images]), tokensOf(b, x, [images, tokens])];
  const vectors = (name: string, count: number) =>
    modulation(c, `${path}.${name}.linear`, { condition, width, count });
  const own = inThrees(vectors("norm1", isDual ? 9 : 6));
  // The last block's has no gate, and its scale comes first.
  const other = isLast ? [] : inThrees(vectors("norm1_context", 6));
  const before = isLast ? scaleAndShift(vectors("norm1_context", 2)) : nth(other, 0);
  const options = { heads, epsilon: EPSILON };
  const found = jointAttention(c, `${path}.attn`, {
    ...options,
    image: modulated(b, image, nth(own, 0)),
    text: modulated(b, text, before),
    asksText: !isLast,
    // Attended to as often as the tokens that it stands for: n exp(logit) = exp(logit + ln n).
    mask: equal === 1
      ? undefined
      : b.table(Array.from({ length: tokens }, (_, i) => i === tokens - 1 ? Math.log(equal) : 0), {
        dtype: s.dtype,
        shape: [1, 1, 1, tokens],
      }),
  });
  const mlp = (y: Value, name: string, m: Modulation) => {
    const inner = feedForward(c, `${path}.${name}`, { x: modulated(b, y, m), width: 4 * width });
    return gated(b, y, { gate: m.gate, y: inner });
  };
  let next = gated(b, image, { gate: nth(own, 0).gate, y: found.image });
  if (isDual) {
    // 3.5's second attention, of the image alone, from what went into the block.
    const second = nth(own, 2);
    const again = selfAttention(c, `${path}.attn2`, {
      ...options,
      x: modulated(b, image, second),
    });
    const y = project(c, `${path}.attn2.to_out.0`, { x: again, out: width });
    next = gated(b, next, { gate: second.gate, y });
  }
  next = mlp(next, "ff", nth(own, 1));
  if (found.text === undefined) return next;
  const nextText = gated(b, text, { gate: nth(other, 0).gate, y: found.text });
  return b.concat([next, mlp(nextText, "ff_context", nth(other, 1))], 1);
}
