import type { Value } from "../../autodiff/mod.ts";
import type { Part } from "../diffusers/mod.ts";
import type { AdaptableLayer } from "../lora/mod.ts";
import { conv2d } from "../nn.ts";
import {
  embedding,
  feedForward,
  gated,
  headNorm,
  modulated,
  modulation,
  project,
  tokensOf,
  unpatchify,
} from "./_layers.ts";
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
    layers: adaptableLayers(config),
    targets: JOINT_ATTENTION_TARGETS,
    channels: config.channels,
    readsGuidance: false,
    time: (t) => t,
    inputTypes: (size) => {
      gridOf(config, size);
      const { batch, height, width, tokens } = size;
      return {
        sample: floatType(batch, config.channels, height, width),
        timestep_proj: floatType(batch, TIMESTEP_WIDTH),
        encoder_hidden_states: floatType(batch, tokens, config.textWidth),
        pooled_projections: floatType(batch, config.pooledWidth),
      };
    },
    segments: (size) => segmentsOf(config, size),
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

function segmentsOf(config: SD3Config, size: TransformerSize): readonly TransformerSegment[] {
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
      const [scale, shift] = pair(modulation(c, "norm_out.linear", options));
      const x = modulated(c.b, tokensOf(c.b, read(last), [0, images]), { scale, shift });
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
  { x, condition, heads, images, isDual, isLast }: {
    readonly x: Value;
    readonly condition: Value;
    readonly heads: number;
    readonly images: number;
    readonly isDual: boolean;
    readonly isLast: boolean;
  },
): Value {
  const { b } = c;
  const [, tokens = 1, width = 1] = x.shape;
  const [image, text] = [tokensOf(b, x, [0, images]), tokensOf(b, x, [images, tokens])];
  const options = { condition, width };
  const own = modulation(c, `${path}.norm1.linear`, { ...options, count: isDual ? 9 : 6 });
  const [shift, scale, gate, shiftMlp, scaleMlp, gateMlp] = six(own);
  const other = modulation(c, `${path}.norm1_context.linear`, {
    ...options,
    count: isLast ? 2 : 6,
  });
  const normed = plainlyModulated();
  // The last block's has no gate, and its scale comes first.
  const textNormed = isLast
    ? modulated(b, text, { scale: pair(other)[0], shift: pair(other)[1] })
    : modulated(b, text, { scale: six(other)[1], shift: six(other)[0] });

  const qkv = (
    v: Value,
    { attention, names, norms }: {
      readonly attention: string;
      readonly names: readonly [string | undefined, string, string];
      readonly norms: readonly [string, string];
    },
  ) => {
    const one = (name: string | undefined, norm?: string) => {
      if (name === undefined) return undefined;
      const y = project(c, `${attention}.${name}`, { x: v, out: width });
      if (norm === undefined) return y;
      return headNorm(c, `${attention}.${norm}`, { x: y, heads, epsilon: EPSILON });
    };
    return [one(names[0], norms[0]), one(names[1], norms[1]), one(names[2])] as const;
  };
  const attention = `${path}.attn`;
  const ownNames = {
    names: ["to_q", "to_k", "to_v"],
    norms: ["norm_q", "norm_k"],
  } as const;
  const found = qkv(normed, { attention, ...ownNames });
  const foundText = qkv(textNormed, {
    attention,
    names: [isLast ? undefined : "add_q_proj", "add_k_proj", "add_v_proj"],
    norms: ["norm_added_q", "norm_added_k"],
  });
  const [q, k, v] = [0, 1, 2].map((i) =>
    b.concat([found[i], foundText[i]].filter((part) => part !== undefined), 1)
  );
  if (q === undefined || k === undefined || v === undefined) throw new RangeError("No attention");
  const attended = b.attention(q, k, v, { heads });
  const out = project(c, `${attention}.to_out.0`, {
    x: tokensOf(b, attended, [0, images]),
    out: width,
  });
  let nextImage = gated(b, image, { gate, y: out });
  if (isDual) nextImage = gated(b, nextImage, secondAttention());
  const mlp = (y: Value, name: string, [s, t, g]: readonly [Value, Value, Value]) => {
    const inner = modulated(b, y, { scale: s, shift: t });
    return gated(b, y, { gate: g, y: feedForward(c, name, { x: inner, width: 4 * width }) });
  };
  nextImage = mlp(nextImage, `${path}.ff`, [scaleMlp, shiftMlp, gateMlp]);
  if (isLast) return nextImage;
  const [, , textGate, textShift, textScale, textGateMlp] = six(other);
  const textOut = project(c, `${attention}.to_add_out`, {
    x: tokensOf(b, attended, [images, tokens]),
    out: width,
  });
  const nextText = mlp(
    gated(b, text, { gate: textGate, y: textOut }),
    `${path}.ff_context`,
    [textScale, textShift, textGateMlp],
  );
  return b.concat([nextImage, nextText], 1);

  function plainlyModulated(): Value {
    return modulated(b, image, { scale, shift });
  }

  /** 3.5's, of the image alone, from what went into the block. */
  function secondAttention(): { readonly gate: Value; readonly y: Value } {
    const [shift2, scale2, gate2] = own.slice(6);
    if (shift2 === undefined || scale2 === undefined || gate2 === undefined) {
      throw new RangeError("No modulation of a second attention");
    }
    const name = `${path}.attn2`;
    const again = modulated(b, image, { scale: scale2, shift: shift2 });
    const [q2, k2, v2] = qkv(again, { attention: name, ...ownNames });
    if (q2 === undefined || k2 === undefined || v2 === undefined) {
      throw new RangeError("No second attention");
    }
    const y = project(c, `${name}.to_out.0`, { x: b.attention(q2, k2, v2, { heads }), out: width });
    return { gate: gate2, y };
  }
}

function pair(values: readonly Value[]): readonly [Value, Value] {
  const [a, b] = values;
  if (a === undefined || b === undefined) throw new RangeError("Two values expected");
  return [a, b];
}

function six(values: readonly Value[]): readonly [Value, Value, Value, Value, Value, Value] {
  const [a, b, c, d, e, f] = values;
  if (a === undefined || b === undefined || c === undefined) throw new RangeError("Six expected");
  if (d === undefined || e === undefined || f === undefined) throw new RangeError("Six expected");
  return [a, b, c, d, e, f];
}

function adaptableLayers(config: SD3Config): readonly AdaptableLayer[] {
  const { heads, headWidth, layers, textWidth, pooledWidth, patch, channels, dualLayers } = config;
  const width = heads * headWidth;
  const found: AdaptableLayer[] = [];
  const add = (name: string, out: number, input: number) =>
    found.push({ name, out, in: input, originalName: name });
  for (const [name, input] of [["timestep", TIMESTEP_WIDTH], ["text", pooledWidth]] as const) {
    add(`time_text_embed.${name}_embedder.linear_1`, width, input);
    add(`time_text_embed.${name}_embedder.linear_2`, width, width);
  }
  add("context_embedder", width, textWidth);
  for (let i = 0; i < layers; i++) {
    const [isLast, isDual] = [i === layers - 1, dualLayers.has(i)];
    const block = (name: string, out = width, input = width) =>
      add(`transformer_blocks.${i}.${name}`, out, input);
    block("norm1.linear", (isDual ? 9 : 6) * width);
    block("norm1_context.linear", (isLast ? 2 : 6) * width);
    for (const name of ["to_q", "to_k", "to_v", "add_k_proj", "add_v_proj", "add_q_proj"]) {
      block(`attn.${name}`);
    }
    block("attn.to_out.0");
    if (!isLast) block("attn.to_add_out");
    if (isDual) { for (const name of ["to_q", "to_k", "to_v", "to_out.0"]) block(`attn2.${name}`); }
    for (const name of isLast ? ["ff"] : ["ff", "ff_context"]) {
      block(`${name}.net.0.proj`, 4 * width);
      block(`${name}.net.2`, width, 4 * width);
    }
  }
  add("norm_out.linear", 2 * width, width);
  add("proj_out", patch * patch * channels, width);
  return found;
}
