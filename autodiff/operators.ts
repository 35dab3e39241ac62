import { CONTRIB } from "./domains.ts";
import { isControlOp, isOpName, type OpName, SPECS } from "./infer/mod.ts";
import { stopsOf } from "./rules/stop_edges.ts";
import { belongsTo } from "./stages.ts";

/** What a graph knows of one of its operators. */
export interface Operator {
  readonly name: OpName;
  /** Whose operator it is; "graph" for those that a serialized model has no name for. */
  readonly domain: "ai.onnx" | "com.microsoft" | "graph";
  /** False where the derivative is 0 by definition. */
  readonly differentiable: boolean;
  /** Inputs through which no gradient flows, though it flows through others. */
  readonly stops: readonly number[];
  readonly attributes: readonly string[];
  /** What the ONNX operator of this name can do and this one cannot. */
  readonly limits?: string;
}

const LIMITS: Partial<Record<OpName, string>> = {
  BatchNormalization: "inference only",
  ConvTranspose: "pads given, not by `auto_pad` or `output_shape`",
  CumSum: "constant axis",
  Dropout: "inference only",
  Einsum: "no letter twice in a term",
  Expand: "constant shape",
  MaxPool: "row-major indices",
  Mod: "floats with `fmod`",
  Pad: "constant pads",
  Reshape: "constant shape",
  Resize: "constant scales or sizes, stretched, not cropped",
  Slice: "constant range",
  Split: "constant sizes",
  Squeeze: "constant axes",
  Tile: "constant repeats",
  TopK: "constant K",
  Unsqueeze: "constant axes",
};

function describe(name: OpName): Operator {
  const stops = stopsOf(name);
  const limits = LIMITS[name];
  const own = name === "StopGradient" || name === "StraightThrough";
  return {
    name,
    domain: own ? "graph" : CONTRIB[name] === undefined ? "ai.onnx" : "com.microsoft",
    differentiable: stops !== "all",
    stops: stops === "all" ? [] : stops,
    attributes: [...SPECS[name].attributes.keys()],
    ...(limits === undefined ? {} : { limits }),
  };
}

/** Every operator that may be written but those with graphs inside, in alphabetical order. */
export const OPERATORS: readonly Operator[] = Object.keys(SPECS).filter(isOpName)
  .filter((op) => !isControlOp(op) && belongsTo("written", op)).sort().map(describe);
