import { float, floatOf, intOf, stringOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { attributesOf, dim } from "../infer/mod.ts";
import { type Conversion, type Conversions, given } from "./_node.ts";

/** 0 within a band around 0, moved towards 0 by a bias outside. */
const shrink: Conversion = (b, node) => {
  const x = given(node, 0);
  const [bias, edge] = [
    floatOf(node.attributes, "bias", 0),
    floatOf(node.attributes, "lambd", 0.5),
  ];
  const none = b.scalar(0, x.dtype);
  const below = b.where(b.less(x, -edge), b.add(x, bias), none);
  return b.where(b.greater(x, edge), b.sub(x, bias), below);
};

/** x sigmoid(αx). */
const swish: Conversion = (b, node) =>
  b.call("QuickGelu", [given(node, 0)], { alpha: float(floatOf(node.attributes, "alpha", 1)) });

/** Largest matrix whose determinant is written out: 2ⁿ minors. */
const LARGEST_DETERMINANT = 8;

/** Determinants of [..., n, n], by minors of the first rows: each set of columns once. */
const determinant: Conversion = (b, node) => {
  const x = given(node, 0);
  const n = dim(x.shape, -1);
  if (n > LARGEST_DETERMINANT || dim(x.shape, -2) !== n) {
    throw new ImportError(
      `Det of [${x.shape}] is not supported, expected square ones of up to ${LARGEST_DETERMINANT} rows`,
    );
  }
  const rank = x.shape.length;
  const entries = Array.from({ length: n }, (_, i) => {
    const row = b.squeeze(b.slice(x, { axis: rank - 2, start: i, end: i + 1 }), [rank - 2]);
    return b.split(row, Array.from({ length: n }, () => 1), rank - 2)
      .map((v) => b.squeeze(v, [rank - 2]));
  });
  // The minor of rows 0 to k - 1 and a set of k columns, by the last of these rows.
  let minors = new Map<number, Value>([[0, b.scalar(1, x.dtype)]]);
  for (const row of entries) {
    const next = new Map<number, Value>();
    for (const [set, minor] of minors) {
      for (const [j, entry] of row.entries()) {
        if ((set >> j) & 1) continue;
        // Columns of the set beyond this one are passed by: each changes the sign.
        const passed = entries.filter((_, c) => c > j && ((set >> c) & 1)).length;
        const product = set === 0 ? entry : b.mul(minor, entry);
        const term = passed % 2 === 1 ? b.neg(product) : product;
        const before = next.get(set | (1 << j));
        next.set(set | (1 << j), before === undefined ? term : b.add(before, term));
      }
    }
    minors = next;
  }
  return minors.get((1 << n) - 1) ?? b.scalar(1, x.dtype);
};

/** Entries of a whole number moved by bits, as products and quotients. */
const bitShift: Conversion = (b, node) => {
  const [x, by] = [given(node, 0), given(node, 1)];
  const factor = b.cast(b.pow(b.scalar(2, "float64"), b.cast(by, "float64")), x.dtype);
  return stringOf(node.attributes, "direction", "LEFT") === "LEFT"
    ? b.mul(x, factor)
    : b.div(x, factor);
};

/** Gelu in ONNX Runtime's forms: of x and a bias, exact or by tanh. */
const gelu = (approximate: "none" | "tanh"): Conversion => (b, node) => {
  const x = given(node, 0);
  const bias = node.inputs[1];
  return b.gelu(bias === undefined ? x : b.add(x, bias), approximate);
};

/** The activation of a fused operator, by its name and parameters. */
export function activated(
  b: Builder,
  x: Value,
  { name, alpha, beta }: {
    readonly name: string;
    readonly alpha?: number | undefined;
    readonly beta?: number | undefined;
  },
): Value {
  const set = {
    ...(alpha !== undefined && { alpha: float(alpha) }),
    ...(beta !== undefined && { beta: float(beta) }),
  };
  switch (name) {
    case "":
      return x;
    case "Relu":
    case "Sigmoid":
    case "Tanh":
    case "Softplus":
    case "Softsign":
    case "HardSwish":
      return b.call(name, [x]);
    case "Elu":
    case "LeakyRelu":
    case "ThresholdedRelu":
    case "HardSigmoid":
      return b.call(name, [x], set);
    case "Affine":
      return b.add(b.mul(x, alpha ?? 1), beta ?? 0);
    case "ScaledTanh":
      return b.mul(b.tanh(b.mul(x, beta ?? 1)), alpha ?? 1);
    case "Clip":
      return b.min(b.max(x, alpha ?? -Infinity), beta ?? Infinity);
    default:
      throw new ImportError(`Activation "${name}" is not supported`);
  }
}

/** Products of matrices with batch axes in front, in ONNX Runtime's form. */
const fusedMatMul: Conversion = (b, node) => {
  const { attributes } = node;
  if (intOf(attributes, "transBatchA", 0) + intOf(attributes, "transBatchB", 0) > 0) {
    throw new ImportError("Attributes transBatchA and transBatchB are not supported");
  }
  return b.fusedMatMul(given(node, 0), given(node, 1), attributesOf("FusedMatMul", attributes));
};

/** Functions that graphs write in others. */
export const MATH: Conversions = {
  BitShift: bitShift,
  Det: determinant,
  Shrink: shrink,
  Swish: swish,
  "com.microsoft.BiasGelu": gelu("none"),
  "com.microsoft.FastGelu": gelu("tanh"),
  "com.microsoft.FusedMatMul": fusedMatMul,
  "com.microsoft.Gelu": gelu("none"),
  "com.microsoft.QuickGelu": (b, node) =>
    b.call("QuickGelu", [given(node, 0)], {
      alpha: float(attributesOf("QuickGelu", node.attributes).alpha),
    }),
  "com.microsoft.TransposeMatMul": fusedMatMul,
};
