import { sizeOf } from "../../autodiff/mod.ts";
import { openWeights, toFloat32, WeightsError } from "../../models/weights/mod.ts";

/** score = weight . x + bias. */
export interface AffineHead {
  readonly weight: Float64Array;
  readonly bias: number;
  /** sha256 of its file. */
  readonly digest: string;
}

/**
 * Reads a chain of linear layers without activations between (`layers.0.weight`, `layers.0.bias`, `layers.2.weight`, ...:
 * the gaps are dropout), whatever their sizes, and folds it in float64 into the affine map that it is. Throws
 * `WeightsError` where the layers do not follow one another or do not end in one number.
 */
export async function openAffineHead(path: string, cacheDir: string): Promise<AffineHead> {
  const source = await openWeights(path, { cacheDir });
  const fail = (detail: string): never => {
    throw new WeightsError(path, detail);
  };
  const layers = source.names().flatMap((name) => {
    const [, number] = /(?:^|\.)(\d+)\.weight$/.exec(name) ?? [];
    return number === undefined ? [] : [{ name: name.slice(0, -".weight".length), at: +number }];
  }).sort((a, b) => b.at - a.at);
  if (layers.length === 0) fail("has no linear layer named as layers.0.weight");
  // From the last layer back: v (W x + b) + c = (v W) x + (v b + c).
  let v = Float64Array.of(1);
  let c = 0;
  for (const { name } of layers) {
    const { shape } = source.get(`${name}.weight`);
    const [out = 0, width = 0] = shape;
    if (shape.length !== 2 || out !== v.length) {
      fail(`weight "${name}.weight" has shape [${shape}], expected ${v.length} rows`);
    }
    const w = toFloat32(await source.read(`${name}.weight`)).data;
    const bias = toFloat32(await source.read(`${name}.bias`));
    if (sizeOf(bias.shape) !== out) {
      fail(`weight "${name}.bias" has shape [${bias.shape}], expected [${out}]`);
    }
    const folded = new Float64Array(width);
    for (let o = 0; o < out; o++) {
      const scale = v[o] ?? 0;
      c += scale * (bias.data[o] ?? 0);
      for (let i = 0; i < width; i++) {
        folded[i] = (folded[i] ?? 0) + scale * (w[o * width + i] ?? 0);
      }
    }
    v = folded;
  }
  return { weight: v, bias: c, digest: await source.digest() };
}
