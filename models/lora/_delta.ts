import type { Builder, Value } from "../../autodiff/mod.ts";
import { matrixOf, type ModuleChange } from "./weight_change.ts";

/** A change, and its tensors by the ends of their names. */
export interface ReadChange {
  readonly change: ModuleChange;
  read(end: string): Value;
}

/** Below any weight's length, and above zero: rows of zeros stay zero. */
const SHORTEST = 1.2e-7;

/** A weight [out, n] plus its delta. */
export function deltaOf(b: Builder, weight: Value, { change, read }: ReadChange): Value {
  const { layer, delta } = change;
  const [out, n] = matrixOf(layer);
  switch (delta?.kind) {
    case undefined:
      return weight;
    case "product": {
      const [up, down] = [read("lora_B.weight"), read("lora_A.weight")];
      const { rank, alpha } = delta;
      return b.gemm(b.reshape(up, [out, rank]), b.reshape(down, [rank, n]), {
        alpha: alpha / rank,
        bias: weight,
      });
    }
    case "hadamard": {
      const first = b.gemm(read("hada_w1_a"), read("hada_w1_b"), { alpha: delta.scale });
      const second = b.gemm(read("hada_w2_a"), read("hada_w2_b"));
      return b.add(weight, b.mul(first, second));
    }
    case "kronecker": {
      const { left: [rows, columns], right: [height, width], skip } = delta;
      const left = b.reshape(read("lokr_w1"), [rows, 1, columns, 1]);
      const right = b.reshape(read("lokr_w2"), [1, height, 1, width]);
      const whole = b.reshape(b.mul(left, right), [rows * height, n]);
      const product = rows * height === out
        ? whole
        : b.slice(whole, { axis: 0, start: skip, end: skip + out });
      return b.add(weight, delta.scale === 1 ? product : b.mul(product, delta.scale));
    }
    case "difference":
      return b.add(weight, read("diff"));
  }
}

/** DoRA (arXiv 2402.09353, eq. 5): rows, or all that belongs to one input, of the lengths given. */
export function withMagnitude(b: Builder, weight: Value, { change, read }: ReadChange): Value {
  const { layer, magnitude } = change;
  if (magnitude === undefined) return weight;
  const [out, n] = matrixOf(layer);
  const [, width = 1] = layer.shape;
  const isOut = magnitude === "out";
  const view = b.reshape(weight, isOut ? [out, n] : [out, width, n / width]);
  const axes = isOut ? [1] : [0, 2];
  const length = b.sqrt(b.sum(b.mul(view, view), { axes, keepDims: true }));
  const wanted = b.reshape(read("lora_magnitude_vector"), length.shape);
  return b.reshape(b.mul(view, b.div(wanted, b.add(length, SHORTEST))), [out, n]);
}
