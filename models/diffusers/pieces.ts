import {
  activeValues,
  Builder,
  byteLengthOf,
  type Value,
  type ValueType,
} from "../../autodiff/mod.ts";
import { CPU_TARGET, scaledGradient } from "../../compile/mod.ts";
import { ChangeInputs, type ModuleChange } from "../lora/mod.ts";
import { composeAll, cut, type Segment } from "../segments.ts";
import { WeightScope } from "../weight_scope.ts";
import { type GraphOptions, type ModelGraph, modelGraph } from "./_model_graph.ts";
import { decoderInputTypes, type LatentsSize, unetInputTypes, type UNetSize } from "./graphs.ts";
import type { Part } from "./pipeline.ts";
import { unetSegments } from "./unet.ts";
import type { UNetConfig } from "./unet_config.ts";
import { vaeSegments } from "./vae.ts";
import type { VaeConfig } from "./vae_config.ts";

/**
 * A piece of a network as graphs of its own, so that its activations need not outlive it: gradient checkpointing.
 * Values go by the names of the segments that make them.
 */
export interface PieceGraphs {
  /** Values it reads that it does not make: inputs of the network, or what earlier pieces make. */
  readonly reads: readonly string[];
  /** Values it makes that later pieces read; the last piece makes the result alone. */
  readonly makes: readonly string[];
  /** Inputs: `reads`, and tensors of changed weights. Outputs: `makes`. */
  readonly forward: ModelGraph;
  /**
   * Inputs: those of `forward`, `cotangent.<value>` for each of `takes`, and `sum.<value>`, what later pieces found, for
   * each of `adds`. Outputs: `grad.<value>` for each of `gives`, and `grad.<tensor of a change>`. It computes the piece again,
   * and is absent where no gradient goes.
   */
  readonly gradient?: PieceGradient | undefined;
}

/** See `PieceGraphs`. All four name values. */
export interface PieceGradient {
  readonly graph: ModelGraph;
  readonly takes: readonly string[];
  readonly adds: readonly string[];
  readonly gives: readonly string[];
}

/** A network in pieces. */
export interface Pieces {
  readonly pieces: readonly PieceGraphs[];
  /** The value that the last piece makes. */
  readonly result: string;
  /** Most bytes of values and gradients that pass from piece to piece, at any time of a product or a forward pass. */
  readonly keptBytes: number;
}

/** How a network is cut. */
export interface PieceOptions {
  /** How many consecutive segments make each piece. Default: one. */
  readonly lengths?: readonly number[] | undefined;
  /** No gradients are wanted. Default false. */
  readonly forwardOnly?: boolean;
}

/**
 * A U-Net in pieces, with the inputs of `unetGraph`. Gradients are those of `unetVjpGraph`: of the changes' tensors, and with
 * `sampleGradient` of "sample".
 */
export function unetPieces(
  part: Part<UNetConfig>,
  { changes = [], sampleGradient = false, lengths, forwardOnly, ...options }:
    & UNetSize
    & GraphOptions
    & PieceOptions
    & { readonly changes?: readonly ModuleChange[]; readonly sampleGradient?: boolean },
): Pieces {
  return inPieces(part, {
    name: "U-Net",
    segments: unetSegments(part.config, options),
    lengths,
    forwardOnly,
    ...options,
    inputs: { ...unetInputTypes(part.config, options) },
    wrt: sampleGradient ? ["sample"] : [],
    build: (differentiable) => {
      const b = new Builder({ differentiable });
      const changed = new ChangeInputs(b, changes, options.target?.precision);
      return { b, s: new WeightScope(b, part.weights, { changes: changed }), changed };
    },
  });
}

/** A VAE decoder in pieces, from "latents" to the image, and back to "latents". */
export function decoderPieces(
  part: Part<VaeConfig>,
  { lengths, forwardOnly, ...options }: LatentsSize & GraphOptions & PieceOptions,
): Pieces {
  return inPieces(part, {
    name: "VAE decoder",
    segments: vaeSegments(part.config),
    lengths,
    forwardOnly,
    ...options,
    inputs: decoderInputTypes(part.config, options),
    wrt: ["latents"],
    build: (differentiable) => {
      const b = new Builder({ differentiable });
      return { b, s: new WeightScope(b, part.weights) };
    },
  });
}

/** Where a network's segments are built. */
export interface PieceContext {
  readonly b: Builder;
  readonly changed?: ChangeInputs | undefined;
}

/** A network of segments in pieces; `build` makes a builder for each. */
export function inPieces<C extends PieceContext>(
  part: Part<unknown>,
  {
    name,
    segments,
    lengths = segments.map(() => 1),
    forwardOnly = false,
    inputs,
    wrt,
    build,
    target = CPU_TARGET,
    policy,
  }: GraphOptions & {
    readonly name: string;
    readonly segments: readonly Segment<C>[];
    readonly lengths: readonly number[] | undefined;
    readonly forwardOnly: boolean | undefined;
    readonly inputs: Readonly<Record<string, ValueType>>;
    /** Inputs whose gradient is wanted. */
    readonly wrt: readonly string[];
    build(differentiable: boolean): C;
  },
): Pieces {
  const cuts = cut(segments, lengths);
  const types = new Map(Object.entries(inputs));
  const active = new Set(wrt);
  const graphs = cuts.map((piece, i): PieceGraphs => {
    const { reads, makes } = piece;
    const title = `${name}, piece ${i + 1} of ${cuts.length}`;
    /** The piece in a builder of its own. */
    const built = (differentiable: boolean) => {
      const context = build(differentiable);
      const given = reads.map((read): [string, Value] => {
        const type = types.get(read);
        if (type === undefined) throw new RangeError(`Piece ${i + 1} reads "${read}" too early`);
        return [read, context.b.input(read, type)];
      });
      const values = composeAll(piece.segments, { context, inputs: Object.fromEntries(given) });
      return { ...context, values };
    };
    const forward = built(false);
    const outputs = Object.fromEntries(makes.map((v) => [v, valueOf(forward.values, v)]));
    for (const [v, { dtype, shape }] of Object.entries(outputs)) types.set(v, { dtype, shape });
    const read = (v: string) => cuts.slice(i + 1).some((later) => later.reads.includes(v));
    return {
      reads,
      makes,
      forward: modelGraph(part, forward.b, { name: title, outputs, fold: false, target, policy }),
      gradient: forwardOnly ? undefined : gradientOf(),
    };

    function gradientOf(): PieceGradient | undefined {
      const { b, changed, values } = built(true);
      const gives = reads.filter((v) => active.has(v));
      const sources = new Map([
        ...gives.map((v): [string, Value] => [v, valueOf(values, v)]),
        ...changed?.declared ?? [],
      ]);
      const reached = activeValues(b, [...sources.values()]);
      const takes = makes.filter((v) => reached.has(valueOf(values, v)));
      if (takes.length === 0) return undefined;
      for (const v of takes) active.add(v);
      const seeds = takes.map((v) => {
        const value = valueOf(values, v);
        return { value, cotangent: b.input(`cotangent.${v}`, value) };
      });
      const gradients = scaledGradient(b, seeds, {
        wrt: [...sources.values()],
        precision: target.precision,
      });
      const adds = gives.filter(read);
      const results = [...sources.keys()].flatMap((v, k): [string, Value][] => {
        const g = gradients[k];
        if (g === undefined) return [];
        return [[`grad.${v}`, adds.includes(v) ? b.add(g, b.input(`sum.${v}`, g)) : g]];
      });
      const graph = modelGraph(part, b, {
        name: `${title}, gradient`,
        outputs: Object.fromEntries(results),
        fold: false,
        target,
        policy,
      });
      return { graph, takes, adds, gives };
    }
  });
  const bytesOf = (values: readonly string[]) =>
    values.reduce((sum, v) => sum + byteLengthOf(types.get(v) ?? NONE), 0);
  // While a piece runs backwards there are the values before it, and the gradients of those that later ones read.
  const kept = cuts.map((_, i) => {
    const [before, made] = [i, i + 1].map((n) => cuts.slice(0, n).flatMap(({ makes }) => makes));
    const later = new Set(cuts.slice(i + 1).flatMap(({ reads }) => reads));
    const passed = made?.filter((v) => later.has(v)) ?? [];
    return bytesOf([...forwardOnly ? [] : before ?? [], ...passed]);
  });
  return {
    pieces: graphs,
    result: cuts.at(-1)?.makes.at(-1) ?? "",
    keptBytes: Math.max(0, ...kept),
  };
}

const NONE: ValueType = { dtype: "uint8", shape: [0] };

function valueOf(values: ReadonlyMap<string, Value>, name: string): Value {
  const value = values.get(name);
  if (value === undefined) throw new RangeError(`No segment makes "${name}"`);
  return value;
}
