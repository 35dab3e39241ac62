import { Builder, type Shape, type ValueType } from "../../autodiff/mod.ts";
import {
  flux2Inputs,
  flux2Segments,
  fluxInputs,
  fluxSegments,
  parseFlux2Config,
  parseFluxConfig,
  parseSD3Config,
  parseZImageConfig,
  sd3Inputs,
  sd3Segments,
  type TransformerSegment,
  type TransformerSize,
  zImageInputs,
  zImageSegments,
} from "../flow/mod.ts";
import { parseQwen3Config, qwen3Segments } from "../qwen3/mod.ts";
import { compose } from "../mod.ts";
import { parseT5Config, t5Segments } from "../t5/mod.ts";
import { RecordingScope, type WeightShapes } from "./_recording_scope.ts";

type Config = Readonly<Record<string, unknown>>;

interface Family {
  /** Names that the network does not have. */
  readonly lacks: RegExp;
  /** What it reads, and its segments. */
  of(file: Config, size: TransformerSize): readonly [
    Readonly<Record<string, ValueType>>,
    readonly TransformerSegment[],
  ];
}

const PATH = "transformer/config.json";

const FAMILIES: Readonly<Record<string, Family>> = {
  SD3Transformer2DModel: {
    lacks: /^$/,
    of: (file, size) => {
      const config = parseSD3Config(file, PATH);
      return [sd3Inputs(config, size), sd3Segments(config, size)];
    },
  },
  FluxTransformer2DModel: {
    lacks: /^$/,
    of: (file, size) => {
      const config = parseFluxConfig(file, PATH);
      return [fluxInputs(config, size), fluxSegments(config, size)];
    },
  },
  Flux2Transformer2DModel: {
    lacks: /\.bias$/,
    of: (file, size) => {
      const config = parseFlux2Config(file, PATH);
      return [flux2Inputs(config, size), flux2Segments(config, size)];
    },
  },
  ZImageTransformer2DModel: {
    lacks: /\.(attention|feed_forward)\..*\.bias$/,
    of: (file, size) => {
      const config = parseZImageConfig(file, PATH);
      return [zImageInputs(config, size), zImageSegments(config, size)];
    },
  },
};

/** Weights of a flow's transformer. */
export function transformerShapes(file: Config): WeightShapes {
  const family = FAMILIES[String(file._class_name)];
  if (family === undefined) throw new RangeError(`No transformer is a ${file._class_name}`);
  // One patch of an image, so that what fills up their number is asked for too.
  const [types, segments] = family.of(file, { batch: 1, height: 2, width: 2, tokens: 32 });
  const shapes = new Map<string, Shape>();
  const b = new Builder();
  const inputs = Object.fromEntries(
    Object.entries(types).map(([name, type]) => [name, b.input(name, type)]),
  );
  const s = new RecordingScope(b, { shapes, lacks: family.lacks });
  compose(segments, { context: { b, s }, inputs });
  if (file._class_name === "SD3Transformer2DModel") addQueries(shapes, file);
  return shapes;
}

/** What the last block has of its text's queries, which no prediction asks for. */
function addQueries(shapes: Map<string, Shape>, file: Config): void {
  const path = `transformer_blocks.${Number(file.num_layers) - 1}.attn`;
  for (const end of ["add_q_proj.weight", "add_q_proj.bias", "norm_added_q.weight"]) {
    const like = shapes.get(`${path}.${end.replace("_q", "_k")}`);
    if (like !== undefined) shapes.set(`${path}.${end}`, like);
  }
}

/** Weights of a T5's encoder. */
export function t5Shapes(file: Config): WeightShapes {
  const config = parseT5Config(file, "text_encoder/config.json");
  const shapes = new Map<string, Shape>();
  const b = new Builder();
  const ids = b.input("input_ids", { dtype: "int64", shape: [1, 2] });
  const s = new RecordingScope(b, { shapes, lacks: /\.bias$/ });
  compose(t5Segments(config, { tokens: 2 }), { context: { b, s }, inputs: { input_ids: ids } });
  return shapes;
}

/** Weights of a Qwen3. */
export function qwen3Shapes(file: Config): WeightShapes {
  const config = parseQwen3Config(file, "text_encoder/config.json");
  const isModel = String(file.architectures).includes("Qwen3Model");
  const shapes = new Map<string, Shape>();
  const b = new Builder();
  const inputs = {
    input_ids: b.input("input_ids", { dtype: "int64", shape: [1, 2] }),
    attention_mask: b.input("attention_mask", { dtype: "float32", shape: [1, 2] }),
  };
  const lacks = isModel ? /\.bias$|^model\./ : /\.bias$/;
  const s = new RecordingScope(b, { shapes, lacks });
  const segments = qwen3Segments(config, { tokens: 2, wanted: [config.layers] });
  compose(segments, { context: { b, s }, inputs });
  return shapes;
}
