import type { Builder, Value } from "../../autodiff/mod.ts";
import { sizeOf } from "../../autodiff/mod.ts";
import {
  openWeights,
  toFloat32,
  WeightsError,
  type WeightSource,
} from "../../models/weights/mod.ts";

/** What may stand between the linear layers of a head. It leaves no trace in the weights. */
export const HEAD_ACTIVATIONS = ["none", "relu", "gelu", "silu", "tanh"] as const;
export type HeadActivation = (typeof HEAD_ACTIVATIONS)[number];

/** A head on an embedding: linear layers, between which an activation may stand. */
export interface AestheticHead {
  /** Numbers of an embedding. */
  readonly width: number;
  readonly layers: readonly HeadLayer[];
  /** Stands after each layer that `layers` says. */
  readonly activation: HeadActivation;
  /** sha256 of its file. */
  readonly digest: string;
}

/** y = weight x + bias. */
export interface HeadLayer {
  readonly inputs: number;
  readonly outputs: number;
  /** [outputs, inputs], row by row. */
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  /** Whether the activation follows. */
  readonly isActivated: boolean;
}

/**
 * Reads a head. The forms that LAION published: one layer (`weight`, `bias`); linear layers with dropout between
 * (`layers.0`, `.2`, `.4`, `.6`, `.7`); the same with ReLU (`layers.0`, `.3`, `.6`, `.9`, `.11`). Their numbers are those
 * of a `Sequential`, where activations and dropout have places of their own. So layers in the places of one of these forms
 * have what it has between them; in other places, such as 0 and 2, or under other names, such as `fc1` and `fc2`, what stands
 * between may be either, and `activation` must say it.
 *
 * Throws `WeightsError` where the layers do not follow one another, do not end in one number, or may have an activation
 * between that nobody named.
 */
export async function openAestheticHead(
  path: string,
  { cacheDir, activation }: {
    readonly cacheDir: string;
    readonly activation: HeadActivation | undefined;
  },
): Promise<AestheticHead> {
  const source = await openWeights(path, { cacheDir });
  const fail = (detail: string): never => {
    throw new WeightsError(path, detail);
  };
  const named = layersOf(source);
  if (new Set(named.map((l) => l.at)).size < named.length) {
    fail(`has no linear layers in one order; two are named ${duplicateOf(named)}`);
  }
  if (named.length === 0) {
    fail("has no linear layer named weight, linear.weight or layers.0.weight");
  }
  const gaps = named.slice(1).map(({ at }, i) => at - (named[i]?.at ?? at) - 1);
  const chosen = activation ?? guess(gaps) ??
    fail(
      `has layers ${
        named.map(({ name }) => shownLayer(name)).join(", ")
      }: an activation may stand between them; ` +
        `give the head's activation, one of ${HEAD_ACTIVATIONS.join(", ")}`,
    );
  const layers: HeadLayer[] = [];
  for (const [i, { name }] of named.entries()) {
    const layer = await readLayer(source, { name, fail });
    const before = layers.at(-1);
    if (before !== undefined && before.outputs !== layer.inputs) {
      fail(
        `weight "${name}weight" has shape [${layer.outputs},${layer.inputs}], expected ${before.outputs} columns`,
      );
    }
    layers.push({ ...layer, isActivated: chosen !== "none" && (gaps[i] ?? 0) > 0 });
  }
  const last = layers.at(-1);
  if (last?.outputs !== 1) {
    fail(`weight "${named.at(-1)?.name}weight" has ${last?.outputs} rows, expected 1`);
  }
  return {
    width: layers[0]?.inputs ?? 0,
    layers: chosen === "none" ? [fold(layers)] : layers,
    activation: chosen,
    digest: await source.digest(),
  };
}

/** As "0" of "layers.0.", or "fc1" of "head.fc1.". */
function shownLayer(name: string): string {
  return name.split(".").at(-2) ?? name;
}

function duplicateOf(named: readonly { readonly name: string; readonly at: number }[]): string {
  const second = named.find(({ at }, i) => named[i - 1]?.at === at);
  const first = named.find(({ at }) => at === second?.at);
  return `"${first?.name}weight" and "${second?.name}weight"`;
}

/** The prefixes of the layers' names in the order of their numbers. */
function layersOf(source: WeightSource): { readonly name: string; readonly at: number }[] {
  return source.names().flatMap((name) => {
    if (!/(^|\.)weight$/.test(name)) return [];
    const [, place, number = "0"] = /(?:^|\.)(?:(\d+)|[^.]*?(\d+)|[^.]*)\.weight$/.exec(name) ?? [];
    // Numbers that end a name, as in fc1 and fc2, are no places: what stands between has none either.
    const at = place === undefined ? 2 * Number(number) : Number(place);
    return [{ name: name.slice(0, -"weight".length), at }];
  }).sort((a, b) => a.at - b.at);
}

/** The activation that the places between layers show; undefined where they may be either. */
function guess(gaps: readonly number[]): HeadActivation | undefined {
  if (gaps.every((gap) => gap === 0)) return "none";
  const isUniform = gaps.slice(0, -1).every((gap) => gap === gaps[0]);
  if (!isUniform || gaps.length < 2 || gaps[0] === gaps.at(-1)) return undefined;
  // LAION's: dropout everywhere but before the last layer, or ReLU and dropout with ReLU alone before it.
  if (gaps[0] === 1 && gaps.at(-1) === 0) return "none";
  return gaps[0] === 2 && gaps.at(-1) === 1 ? "relu" : undefined;
}

async function readLayer(
  source: WeightSource,
  { name, fail }: { readonly name: string; readonly fail: (detail: string) => never },
): Promise<Omit<HeadLayer, "isActivated">> {
  const { shape } = source.get(`${name}weight`);
  const [outputs = 0, inputs = 0] = shape;
  if (shape.length !== 2) fail(`weight "${name}weight" has shape [${shape}], expected a matrix`);
  const bias = source.has(`${name}bias`)
    ? toFloat32(await source.read(`${name}bias`))
    : { data: new Float32Array(outputs), shape: [outputs] };
  if (sizeOf(bias.shape) !== outputs) {
    fail(`weight "${name}bias" has shape [${bias.shape}], expected [${outputs}]`);
  }
  const weight = toFloat32(await source.read(`${name}weight`)).data;
  return { inputs, outputs, weight: Float64Array.from(weight), bias: Float64Array.from(bias.data) };
}

/** The affine map that linear layers without activations are, in float64. */
function fold(layers: readonly HeadLayer[]): HeadLayer {
  // From the last layer back: v (W x + b) + c = (v W) x + (v b + c).
  let v = Float64Array.of(1);
  let c = 0;
  for (const { inputs, outputs, weight, bias } of layers.toReversed()) {
    const folded = new Float64Array(inputs);
    for (let o = 0; o < outputs; o++) {
      const scale = v[o] ?? 0;
      c += scale * (bias[o] ?? 0);
      for (let i = 0; i < inputs; i++) {
        folded[i] = (folded[i] ?? 0) + scale * (weight[o * inputs + i] ?? 0);
      }
    }
    v = folded;
  }
  return { inputs: v.length, outputs: 1, weight: v, bias: Float64Array.of(c), isActivated: false };
}

/** Appends the head's score [B] of embeddings [B, width]. */
export function headScore(b: Builder, embedding: Value, head: AestheticHead): Value {
  const y = head.layers.reduce((x, { inputs, outputs, weight, bias, isActivated }) => {
    const linear = b.add(
      b.matMul(
        x,
        b.table(transposed(weight, { outputs, inputs }), {
          dtype: "float32",
          shape: [inputs, outputs],
        }),
      ),
      b.table(bias, { dtype: "float32", shape: [1, outputs] }),
    );
    return isActivated ? activate(b, linear, head.activation) : linear;
  }, embedding);
  return b.reshape(y, [embedding.shape[0] ?? 1]);
}

function activate(b: Builder, x: Value, activation: HeadActivation): Value {
  switch (activation) {
    case "none":
      return x;
    case "relu":
      return b.relu(x);
    case "gelu":
      return b.gelu(x);
    case "silu":
      return b.silu(x);
    case "tanh":
      return b.tanh(x);
  }
}

function transposed(
  matrix: Float64Array,
  { outputs, inputs }: { readonly outputs: number; readonly inputs: number },
): Float64Array {
  const result = new Float64Array(matrix.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) result[i * outputs + o] = matrix[o * inputs + i] ?? 0;
  }
  return result;
}
