import {
  activeValues,
  Builder,
  byteLengthOf,
  type Value,
  type ValueType,
} from "../../autodiff/mod.ts";
import { CPU_TARGET } from "../../compile/mod.ts";
import { ChangeInputs, type ModuleChange } from "../lora/mod.ts";
import { composeAll, cut, type Segment } from "../segments.ts";
import { WeightScope } from "../weight_scope.ts";
import { gradientOutputs } from "./_gradient_outputs.ts";
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
  /** Absent where no gradient goes. */
  readonly gradient?: PieceGradient | undefined;
}

/** A piece's vector-Jacobian product. The graph computes the piece again, so it also has the inputs of `forward`. */
export interface PieceGradient {
  readonly graph: ModelGraph;
  /** Inputs with the complete gradients of what the piece makes, by value. */
  readonly takes: ReadonlyMap<string, string>;
  /** Inputs with what later pieces found of the gradients of what the piece reads, by value. */
  readonly adds: ReadonlyMap<string, string>;
  /** Outputs with the gradients of what the piece reads, what later pieces found included, by value. */
  readonly gives: ReadonlyMap<string, string>;
  /** Outputs with the gradients of the changes' tensors, by tensor. */
  readonly changes: ReadonlyMap<string, string>;
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
      const sources = reads.filter((v) => active.has(v));
      const wrt = new Map([
        ...sources.map((v): [string, Value] => [v, valueOf(values, v)]),
        ...changed?.declared ?? [],
      ]);
      const reached = activeValues(b, [...wrt.values()]);
      const made = makes.filter((v) => reached.has(valueOf(values, v)));
      if (made.length === 0) return undefined;
      for (const v of made) active.add(v);
      const seeds = made.map((v) => {
        const value = valueOf(values, v);
        return { value, cotangent: b.input(`cotangent of ${v}`, value) };
      });
      const { outputs, gradients } = gradientOutputs(b, seeds, { wrt, target });
      const takes = new Map(made.map((v, k) => [v, seeds[k]?.cotangent.name ?? ""]));
      const gives = new Map([...gradients].filter(([v]) => sources.includes(v)));
      const adds = new Map<string, string>();
      for (const [v, output] of gives) {
        const found = outputs[output];
        if (found === undefined || !read(v)) continue;
        const sum = b.input(`sum of ${v}`, found);
        adds.set(v, sum.name);
        outputs[output] = b.add(found, sum);
      }
      const graph = modelGraph(part, b, {
        name: `${title}, gradient`,
        outputs,
        fold: false,
        target,
        policy,
      });
      const changes = new Map([...gradients].filter(([v]) => !sources.includes(v)));
      return { graph, takes, adds, gives, changes };
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
