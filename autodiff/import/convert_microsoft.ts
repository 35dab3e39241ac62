import { floatOf, intOf, stringOf } from "../attributes.ts";
import { ImportError } from "../errors.ts";
import { constantOf } from "../constant_of.ts";
import { dim } from "../infer/_types.ts";
import { without } from "./_keep.ts";
import { type Conversion, type Conversions, given, names } from "./_node.ts";
import { activated } from "./convert_math.ts";

/** A convolution, a sum with another picture, and an activation. */
const fusedConv: Conversion = (b, node) => {
  const [x, w, bias, added] = node.inputs;
  const attributes = without(node.attributes, "activation");
  const y = b.call("Conv", bias === undefined ? [x, w] : [x, w, bias], attributes);
  const [alpha, beta] = node.lists.floats["activation_params"] ?? [];
  const name = stringOf(node.attributes, "activation", "");
  return activated(b, added === undefined ? y : b.add(y, added), { name, alpha, beta });
};

/** A product of matrices and an activation. */
const fusedGemm: Conversion = (b, node) => {
  const own = ["activation", "activation_alpha", "activation_beta", "activation_gamma"];
  const y = b.call("Gemm", node.inputs, without(node.attributes, ...own));
  const parameter = (name: string) =>
    node.attributes[name] === undefined ? undefined : floatOf(node.attributes, name, 0);
  return activated(b, y, {
    name: stringOf(node.attributes, "activation", ""),
    alpha: parameter("activation_alpha"),
    beta: parameter("activation_beta"),
  });
};

/** x + bias + skipped. */
const biasAdd: Conversion = (b, node) =>
  b.add(b.add(given(node, 0), given(node, 1)), given(node, 2));

/** x + bias as [x1, x2]: x1 gelu(x2). */
const biasSplitGelu: Conversion = (b, node) => {
  const x = b.add(given(node, 0), given(node, 1));
  const half = dim(x.shape, -1) / 2;
  const [left, right] = b.split(x, [half, half], x.shape.length - 1);
  if (left === undefined || right === undefined) throw new ImportError("Nothing to split");
  return b.mul(left, b.gelu(right));
};

const biasSoftmax: Conversion = (b, node) => {
  const x = b.add(given(node, 0), given(node, 1));
  const axis = intOf(node.attributes, "axis", 1);
  if (axis !== -1 && axis !== x.shape.length - 1) {
    throw new ImportError(`Attribute axis is ${axis}, expected the last one`);
  }
  return b.softmax(x);
};

/** A convolution of pictures whose channels are last. */
const nhwcConv: Conversion = (b, node) => {
  const y = b.call("Conv", [
    b.transpose(given(node, 0), [0, 3, 1, 2]),
    given(node, 1),
    node.inputs[2],
  ], {
    ...node.attributes,
  });
  return b.transpose(y, [0, 2, 3, 1]);
};

/** Sums of rows of embedding tables, normalized: of words, places and segments. */
const embedLayerNorm: Conversion = (b, node) => {
  const [ids, segments, words, places, kinds, scale, bias, mask, positions] = node.inputs;
  if (ids === undefined || words === undefined || places === undefined) {
    throw new ImportError("Ids or embeddings are missing");
  }
  const [, tokens = 1] = ids.shape;
  const at = positions ??
    b.table(Float64Array.from({ length: tokens }, (_, i) => i), {
      dtype: "int64",
      shape: [1, tokens],
    });
  const rows = [b.gather(words, ids), b.gather(places, at)];
  if (segments !== undefined && kinds !== undefined) rows.push(b.gather(kinds, segments));
  const sum = rows.reduce((x, y) => b.add(x, y));
  const y = b.layerNorm(sum, {
    scale: scale ?? b.fill(1, { dtype: sum.dtype, shape: [dim(sum.shape, -1)] }),
    epsilon: floatOf(node.attributes, "epsilon", 1e-12),
    ...(bias && { bias }),
  });
  const counts = mask && names(node, 1)
    ? b.sum(b.cast(mask, "int32"), { axes: [1], keepDims: false })
    : undefined;
  return [y, counts, names(node, 2) ? sum : undefined];
};

/** A matrix whose entries are kept in four or eight bits, in blocks along its columns. */
const matMulNBits: Conversion = (b, node) => {
  const { attributes } = node;
  const [k, n] = [intOf(attributes, "K", 0), intOf(attributes, "N", 0)];
  const [bits, block] = [intOf(attributes, "bits", 4), intOf(attributes, "block_size", 32)];
  const [packed, scales, points] = [1, 2, 3].map((i) => constantOf(node.inputs[i]));
  if (packed === undefined || scales === undefined || (bits !== 4 && bits !== 8)) {
    throw new ImportError("MatMulNBits needs stored weights of 4 or 8 bits");
  }
  if (scales.dtype !== "float32" || node.inputs[4] !== undefined) {
    throw new ImportError("MatMulNBits needs float32 scales and no order of groups");
  }
  const blocks = Math.ceil(k / block);
  const rowBytes = block * bits / 8;
  const pointBytes = Math.ceil(blocks * bits / 8);
  const at = (data: ArrayLike<number | bigint>, base: number, i: number) => {
    const byte = Number(data[base + Math.floor(i * bits / 8)] ?? 0);
    return bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15;
  };
  const matrix = new Float32Array(n * k);
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < k; i++) {
      const part = Math.floor(i / block);
      const q = at(packed.data, (row * blocks + part) * rowBytes, i % block);
      const zero = points === undefined
        ? 2 ** (bits - 1)
        : points.dtype === "float32"
        ? points.data[row * blocks + part] ?? 0
        : at(points.data, row * pointBytes, part);
      matrix[row * k + i] = (q - zero) * (scales.data[row * blocks + part] ?? 0);
    }
  }
  const w = b.table(matrix, { dtype: "float32", shape: [n, k] });
  return b.linear(given(node, 0), w, node.inputs[5]);
};

/** Operators that ONNX Runtime's optimizer and Microsoft's exporters write. */
export const MICROSOFT: Conversions = {
  "com.microsoft.BiasAdd": biasAdd,
  "com.microsoft.BiasSoftmax": biasSoftmax,
  "com.microsoft.BiasSplitGelu": biasSplitGelu,
  "com.microsoft.EmbedLayerNormalization": embedLayerNorm,
  "com.microsoft.FusedConv": fusedConv,
  "com.microsoft.FusedGemm": fusedGemm,
  "com.microsoft.MatMulNBits": matMulNBits,
  "com.microsoft.NhwcConv": nhwcConv,
};
