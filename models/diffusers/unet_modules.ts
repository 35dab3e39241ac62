import type { AdaptableLayer } from "../lora/mod.ts";
import type { LoraPart } from "../lora/mod.ts";
import type { WeightSource } from "../weights/mod.ts";
import type { Pipeline } from "./pipeline.ts";

/** Where a network's modules are read from: the names and shapes in its weights' headers. */
export interface ModuleSource {
  readonly weights: Pick<WeightSource, "names" | "get">;
}

/**
 * Every module of a U-Net that has a weight, in the order in which PyTorch lists them, with its name in the original
 * (CompVis, Stability) layout and those of diffusers' old attention processors.
 */
export function unetModules(source: ModuleSource): readonly AdaptableLayer[] {
  const modules = weightedModules(source, () => true).sort((a, b) => compare(a.name, b.name));
  const original = originalNames(modules.map(({ name }) => name));
  return modules.map((module) => {
    const { name } = module;
    const names = [original(name), name.replace(/\.to_out\.0$/, ".to_out")];
    return {
      ...module,
      aliases: names.flatMap((alias) =>
        alias === undefined || alias === name ? [] : [{ name: alias }]
      ),
    };
  });
}

/** The networks of a pipeline that a LoRA file can change. */
export function loraParts(
  { unet, textEncoders }: Pick<Pipeline, "unet" | "textEncoders">,
): readonly LoraPart[] {
  const names = ["text_encoder", "text_encoder_2"] as const;
  return [
    { name: "unet", layers: unetModules(unet) },
    ...textEncoders.flatMap((part, i): LoraPart[] => {
      const name = names[i];
      return name === undefined ? [] : [{ name, layers: textModules(part) }];
    }),
  ];
}

/** Names of a CLIP text encoder's attention in diffusers before 0.22. */
const OLD_ATTENTION = [["q_proj", "to_q"], ["k_proj", "to_k"], ["v_proj", "to_v"]] as const;

/**
 * Every module of a CLIP text encoder that has a weight, embeddings apart, in the state dict's names. The part
 * "text_model." is there or not, as the version of transformers had it.
 */
export function textModules(source: ModuleSource): readonly AdaptableLayer[] {
  const modules = weightedModules(source, (name) => !name.includes("embeddings."));
  return modules.sort((a, b) => compare(a.name, b.name)).map((module) => {
    const { name } = module;
    const bare = name.replace(/^text_model\./, "");
    const old = OLD_ATTENTION.reduce((n, [ours, theirs]) => n.replace(ours, theirs), bare)
      .replace(/\.out_proj$/, ".to_out");
    const aliases = [bare, old].flatMap((n) => [n, `text_model.${n}`]);
    return {
      ...module,
      aliases: [...new Set(aliases)].filter((n) => n !== name).map((alias) => ({ name: alias })),
    };
  });
}

/** Every module of a network that has a weight, in its state dict's names, in an order of no meaning but always the same. */
export function networkModules(source: ModuleSource): readonly AdaptableLayer[] {
  return weightedModules(source, () => true).sort((a, b) => compare(a.name, b.name));
}

const WEIGHT = ".weight";

function weightedModules(
  { weights }: ModuleSource,
  wanted: (name: string) => boolean,
): AdaptableLayer[] {
  return weights.names().flatMap((path) => {
    const name = path.slice(0, -WEIGHT.length);
    if (!path.endsWith(WEIGHT) || !wanted(name)) return [];
    return [{ name, shape: weights.get(path).shape, aliases: [] }];
  });
}

/** Parts of names in the order of PyTorch's modules; others follow by themselves, numbers by value. */
const ORDER = [
  ...["conv_in", "time_embedding", "add_embedding", "down_blocks", "up_blocks", "mid_block"],
  ...["conv_norm_out", "conv_out", "attentions", "resnets", "downsamplers", "upsamplers"],
  ...["norm", "proj_in", "transformer_blocks", "proj_out", "attn1", "attn2", "ff"],
  ...["to_q", "to_k", "to_v", "to_out", "norm1", "conv1", "time_emb_proj", "norm2", "conv2"],
  ...["conv_shortcut", "text_model", "encoder", "final_layer_norm", "text_projection"],
];

function compare(a: string, b: string): number {
  const [x, y] = [a.split("."), b.split(".")];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const [p = "", q = ""] = [x[i], y[i]];
    if (p === q) continue;
    if (/^\d+$/.test(p) && /^\d+$/.test(q)) return Number(p) - Number(q);
    const [m, n] = [p, q].map((part) => (ORDER.indexOf(part) + 1) || Infinity);
    if (m !== n) return (m ?? 0) - (n ?? 0);
    return p < q ? -1 : 1;
  }
  return x.length - y.length;
}

const INNER: ReadonlyMap<string, string> = new Map([
  ["norm1", "in_layers.0"],
  ["conv1", "in_layers.2"],
  ["time_emb_proj", "emb_layers.1"],
  ["norm2", "out_layers.0"],
  ["conv2", "out_layers.3"],
  ["conv_shortcut", "skip_connection"],
]);

const OUTER: ReadonlyMap<string, string> = new Map([
  ["conv_in", "input_blocks.0.0"],
  ["time_embedding.linear_1", "time_embed.0"],
  ["time_embedding.linear_2", "time_embed.2"],
  ["add_embedding.linear_1", "label_emb.0.0"],
  ["add_embedding.linear_2", "label_emb.0.2"],
  ["conv_norm_out", "out.0"],
  ["conv_out", "out.2"],
]);

/**
 * Names of modules in the original layout, where residual blocks are numbered through and every attention and change of
 * size goes with the block before it, but a downsampler has a number of its own.
 */
function originalNames(names: readonly string[]): (name: string) => string | undefined {
  /** How many there are of a kind, by "down_blocks.0.resnets". */
  const counts = new Map<string, number>();
  for (const name of names) {
    const match = /^((?:down|up)_blocks\.(\d+)\.\w+)\.(\d+)\./.exec(name);
    const [, path = "", , j] = match ?? [];
    if (match !== null) counts.set(path, Math.max(counts.get(path) ?? 0, Number(j) + 1));
  }
  const count = (path: string) => counts.get(path) ?? 0;
  /** The number of a block's first residual block. */
  const first = (side: string, i: number): number =>
    i === 0
      ? Number(side === "down_blocks")
      : first(side, i - 1) + count(`${side}.${i - 1}.resnets`) +
        count(`${side}.${i - 1}.downsamplers`);
  const inner = (rest: string) => INNER.get(rest) ?? rest;
  return (name) => {
    const middle = /^mid_block\.(resnets|attentions)\.(\d+)\.(.*)$/.exec(name);
    if (middle !== null) {
      const [, kind, i, rest = ""] = middle;
      return kind === "attentions"
        ? `middle_block.${2 * Number(i) + 1}.${rest}`
        : `middle_block.${2 * Number(i)}.${inner(rest)}`;
    }
    const match = /^((down|up)_blocks)\.(\d+)\.(\w+)\.(\d+)\.(.*)$/.exec(name);
    if (match === null) return OUTER.get(name);
    const [, side = "", way, i, kind, j, rest = ""] = match;
    const start = first(side, Number(i));
    const resnets = count(`${side}.${i}.resnets`);
    if (kind === "downsamplers") return `input_blocks.${start + resnets}.0.op`;
    if (kind === "upsamplers") {
      const place = count(`${side}.${i}.attentions`) > 0 ? 2 : 1;
      return `output_blocks.${start + resnets - 1}.${place}.conv`;
    }
    const path = `${way === "down" ? "input" : "output"}_blocks.${start + Number(j)}`;
    return kind === "resnets" ? `${path}.0.${inner(rest)}` : `${path}.1.${rest}`;
  };
}
