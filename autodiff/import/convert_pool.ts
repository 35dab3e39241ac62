import { int, intOf, ints } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { constantInts } from "../infer/_types.ts";
import { attributesOf, dim, reach, windowOf } from "../infer/mod.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { keep, without } from "./_keep.ts";
import { type Conversion, type Conversions, given, names } from "./_node.ts";

const fill = (value: number, count: number): number[] => Array.from({ length: count }, () => value);

/** |x|ᵖ. */
function power(b: Builder, x: Value, p: number): Value {
  return p === 1 ? b.abs(x) : p === 2 ? b.mul(x, x) : b.pow(b.abs(x), p);
}

/** The p-th root of a sum of powers; at 0, where it has no derivative, that is 0. */
function root(b: Builder, sum: Value, p: number): Value {
  if (p === 1) return sum;
  const [isSome, one, none] = [b.greater(sum, 0), b.scalar(1, sum.dtype), b.scalar(0, sum.dtype)];
  const some = b.where(isSome, sum, one);
  return b.where(isSome, p === 2 ? b.sqrt(some) : b.pow(some, 1 / p), none);
}

/** (Σ |x|ᵖ)^(1/p) over windows: padding counts as 0, so it is the mean with padding times the window's size. */
const lpPool: Conversion = (b, node) => {
  const p = intOf(node.attributes, "p", 2);
  const { kernel_shape: kernel } = attributesOf("AveragePool", node.attributes);
  const mean = b.call("AveragePool", [power(b, given(node, 0), p)], {
    ...without(node.attributes, "p"),
    count_include_pad: int(1),
  });
  return root(b, b.mul(mean, sizeOf(kernel)), p);
};

const globalLpPool: Conversion = (b, node) => {
  const [x, p] = [given(node, 0), intOf(node.attributes, "p", 2)];
  const axes = x.shape.flatMap((_, i) => i < 2 ? [] : [i]);
  return root(b, b.sum(power(b, x, p), { axes }), p);
};

/** Where maxima came from may be counted column by column. */
const maxPool: Conversion = (b, node) => {
  const x = given(node, 0);
  const attributes = without(node.attributes, "storage_order");
  const call = keep({ ...node, attributes });
  const isByColumn = intOf(node.attributes, "storage_order", 0) === 1;
  if (!isByColumn || !names(node, 1)) return call;
  const [y, at] = b.op("MaxPool", call.inputs, attributes);
  if (at === undefined || x.shape.length !== 4) {
    throw new ImportError("Attribute storage_order is 1, expected 0 where indices are read");
  }
  const [height, width] = [dim(x.shape, 2), dim(x.shape, 3)];
  const plane = b.div(at, height * width);
  const row = b.div(b.sub(at, b.mul(plane, height * width)), width);
  const column = b.sub(at, b.mul(b.add(b.mul(plane, height), row), width));
  const moved = b.add(b.mul(plane, height * width), b.add(b.mul(column, height), row));
  return [y, moved];
};

/** Maxima put back to where they came from, zeros elsewhere. */
const maxUnpool: Conversion = (b, node) => {
  const [x, at] = [given(node, 0), given(node, 1)];
  const attributes = attributesOf("MaxPool", node.attributes);
  const { kernel_shape: kernel } = attributes;
  const spatial = x.shape.slice(2);
  const { strides, pads } = windowOf(attributes, kernel, spatial);
  const n = spatial.length;
  const natural = [
    ...x.shape.slice(0, 2),
    ...spatial.map((d, i) =>
      (d - 1) * dim(strides, i) + dim(kernel, i) - dim(pads, i) - dim(pads, i + n)
    ),
  ];
  const put = (shape: Shape) => {
    const zeros = b.expand(b.scalar(0, x.dtype), [sizeOf(shape)]);
    const flat = (v: Value) => b.reshape(v, [sizeOf(v.shape)]);
    return b.reshape(
      b.call("ScatterElements", [zeros, flat(at), flat(x)], { axis: int(0) }),
      shape,
    );
  };
  const wanted = constantInts(node.inputs[2], "Output shape");
  if (wanted === undefined) return put(natural);
  // Indices are of the natural size: what is asked for beyond is zeros.
  const more = natural.map((d, i) => dim(wanted, i) - d);
  return b.pad(put(natural), { pads: [...more.map(() => 0), ...more] });
};

/** Sums of blocks over the places where they overlap: the transposed convolution with kernels of a single 1. */
const col2Im: Conversion = (b, node) => {
  const x = given(node, 0);
  const image = constantInts(node.inputs[1], "Image shape") ?? [];
  const block = constantInts(node.inputs[2], "Block shape") ?? [];
  const n = image.length;
  const { strides, dilations, pads } = windowOf(
    attributesOf("Conv", node.attributes),
    block,
    image,
  );
  const [batch = 1, width = 1] = x.shape;
  const [taps, channels] = [sizeOf(block), width / sizeOf(block)];
  const reaches = block.map((k, i) => (k - 1) * dim(dilations, i) + 1);
  const room = image.map((d, i) => d + dim(pads, i) + dim(pads, i + n) - dim(reaches, i));
  const places = room.map((r, i) => Math.floor(r / dim(strides, i)) + 1);
  if (sizeOf(places) !== dim(x.shape, 2)) {
    throw new ImportError(
      `Input [${x.shape}] does not have the ${sizeOf(places)} blocks of [${image}]`,
    );
  }
  const one = Float64Array.from(
    { length: channels * taps * taps },
    (_, i) => Math.floor(i / taps) % taps === i % taps ? 1 : 0,
  );
  const w = b.table(one, { dtype: x.dtype, shape: [width, 1, ...block] });
  return b.call("ConvTranspose", [b.reshape(x, [batch, width, ...places]), w], {
    group: int(channels),
    kernel_shape: ints(block),
    strides: ints(strides),
    dilations: ints(dilations),
    pads: ints(pads),
    output_padding: ints(room.map((r, i) => r - (dim(places, i) - 1) * dim(strides, i))),
  });
};

/** Padding that makes an output of a given size, or one of stride times the input's, written out. */
const convTranspose: Conversion = (_b, node) => {
  const { attributes } = node;
  const call = keep({ ...node, attributes: without(attributes, "auto_pad", "output_shape") });
  const own = attributesOf("ConvTranspose", attributes);
  const { auto_pad: auto, output_shape: asked } = own;
  if (auto === "NOTSET" && asked === undefined) return call;
  const [x, w] = [given(node, 0), given(node, 1)];
  const spatial = x.shape.slice(2);
  const n = spatial.length;
  const unpadded = { ...own, auto_pad: "NOTSET", pads: undefined };
  const window = windowOf(unpadded, w.shape.slice(2), spatial);
  if (auto === "VALID" && asked === undefined) {
    return { ...call, attributes: { ...call.attributes, pads: ints(fill(0, 2 * n)) } };
  }
  const extra = own.output_padding ?? fill(0, n);
  const wanted = asked?.slice(-n) ?? spatial.map((d, i) => d * dim(window.strides, i));
  const total = spatial.map((d, i) =>
    dim(window.strides, i) * (d - 1) + dim(extra, i) + reach(window, i) + 1 - dim(wanted, i)
  );
  const [small, large] = [
    total.map((t) => Math.floor(Math.max(t, 0) / 2)),
    total.map((t) => Math.ceil(Math.max(t, 0) / 2)),
  ];
  // What is asked for beyond the full output is filled at its end.
  const beyond = total.map((t, i) => dim(extra, i) + Math.max(-t, 0));
  const pads = auto === "SAME_UPPER" ? [...small, ...large] : [...large, ...small];
  return {
    ...call,
    attributes: { ...call.attributes, pads: ints(pads), output_padding: ints(beyond) },
  };
};

/** Pools and their likes. */
export const POOLS: Conversions = {
  Col2Im: col2Im,
  ConvTranspose: convTranspose,
  GlobalLpPool: globalLpPool,
  LpPool: lpPool,
  MaxPool: maxPool,
  MaxUnpool: maxUnpool,
};
