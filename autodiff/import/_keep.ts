import type { Attributes } from "../attributes.ts";
import { ImportError } from "../errors.ts";
import { isOpName, type OpName } from "../infer/mod.ts";
import { belongsTo } from "../stages.ts";
import type { Call, ForeignNode } from "./_node.ts";

/** Names that mean something else here than in ONNX, or nothing there. */
const OURS: ReadonlySet<string> = new Set<OpName>([
  "Attention",
  "FusedMatMul",
  "If",
  "QuickGelu",
  "Scan",
  "StopGradient",
  "StraightThrough",
]);

/** True for operators that a graph has under their ONNX name. */
export function isKept(op: string): op is OpName {
  return isOpName(op) && !OURS.has(op) && belongsTo("written", op);
}

/** Operators that are left out on purpose, and why. */
export const REFUSED: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"].concat(
      "RandomUniformLike",
    ).map((op) => [op, "it draws at random: a score must be the same each time"]),
  ),
  ...Object.fromEntries(
    ["NonMaxSuppression", "Unique"].map((op) => [
      op,
      "the size of what it gives is only known in a run",
    ]),
  ),
  ImageDecoder: "models are given pixels",
  // In blocks of 8 or 16 channels, as wide as the registers of the machine, and the file does not say how wide.
  ...Object.fromEntries(
    ["Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample"].concat(
      "ReorderInput",
      "ReorderOutput",
    ).map((op) => [
      `com.microsoft.nchwc.${op}`,
      "it is laid out for the processor it was saved on, whose block of channels the file does not say: save the model with graph_optimization_level ORT_ENABLE_EXTENDED, not with ORT_ENABLE_ALL, the default",
    ]),
  ),
};

/** The same call, without attributes that change nothing here. Throws on an operator that graphs do not have. */
export function keep({ op, inputs, attributes, lists }: ForeignNode): Call {
  if (!isKept(op)) {
    const reason = REFUSED[op];
    throw new ImportError(
      `Operator ${op} is not supported${reason === undefined ? "" : `: ${reason}`}`,
    );
  }
  const [list] = [...Object.keys(lists.floats), ...Object.keys(lists.strings)];
  if (list !== undefined) throw new ImportError(`Attribute ${list} is not supported`);
  const neutral = NEUTRAL[op] ?? {};
  const kept = Object.entries(attributes).filter(([key, { value }]) => {
    const allowed = neutral[key];
    if (allowed === undefined || allowed === "any") return allowed === undefined;
    if (value === allowed) return false;
    throw new ImportError(`Attribute ${key} is ${value}, expected ${allowed}`);
  });
  return { op, inputs, attributes: Object.fromEntries(kept) };
}

/** Attributes that change nothing here: whatever their value, or as long as they have the one given. */
const NEUTRAL: Partial<Record<OpName, Readonly<Record<string, number | string>>>> = {
  BatchNormalization: { momentum: "any", spatial: 1, training_mode: 0 },
  Cast: { saturate: "any", round_mode: "any" },
  GroupNormalization: { stash_type: 1 },
  LayerNormalization: { stash_type: "any" },
  Resize: { extrapolation_value: "any" },
};

/** Attributes without some of them. */
export function without(attributes: Attributes, ...names: readonly string[]): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => !names.includes(name)));
}
