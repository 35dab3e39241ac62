import type { OpName } from "../autodiff/infer/mod.ts";
import {
  byteLengthOf,
  BYTES_PER_ELEMENT,
  type Node,
  readsOf,
  type Value,
} from "../autodiff/mod.ts";

/** Operators whose result is their first input under another shape: nothing is copied. */
export const VIEWS: ReadonlySet<OpName> = new Set<OpName>([
  "Flatten",
  "Identity",
  "Reshape",
  "Squeeze",
  "Unsqueeze",
]);

/** Operators that the runtime lets write over an input that nobody reads any more. */
const IN_PLACE: ReadonlySet<OpName> = new Set<OpName>([
  ...[
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Div",
    "Erf",
    "Exp",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
  ] as const,
  ...["Relu", "Sigmoid", "Softmax", "Sqrt", "Sub", "Sum", "Tanh"] as const,
]);

/** Memory that values share, one after the other. */
interface Buffer {
  readonly bytes: number;
  /** Values of the same type may share it. */
  readonly type: string;
  /** The nodes it is taken at and freed after. */
  readonly start: number;
  end: number;
  /** Reads to come. */
  reads: number;
}

/** Values whose memory views share, as found before: a chain of views is walked once. */
const roots = new WeakMap<Value, Value>();

/** The value whose memory `v` is, which a view shares. */
export function root(v: Value): Value {
  const chain: Value[] = [];
  let at = v;
  for (let next = viewed(at); next !== undefined; next = viewed(at)) {
    chain.push(at);
    at = roots.get(at) ?? next;
  }
  for (const view of chain) roots.set(view, at);
  return at;
}

/** What a view is made of. */
function viewed({ source }: Value): Value | undefined {
  return source.kind === "node" && VIEWS.has(source.node.op) ? source.node.inputs[0] : undefined;
}

/**
 * Most bytes at once of what `nodes` make, run one after the other, as ONNX Runtime lays its buffers out: a value takes that
 * of an input it may be written over, else one of equal shape that nobody reads any more, which is held until then, else
 * one of its own. `within` has what each node takes beside them. Values that `isHidden` says true of have a buffer each:
 * see `SerializeOptions.hideSizes`.
 */
export function bufferBytes(
  nodes: readonly Node[],
  { outputs, within, isHidden }: {
    readonly outputs: readonly Value[];
    readonly within: readonly number[];
    readonly isHidden: (v: Value) => boolean;
  },
): number {
  const results = new Set(outputs.map(root));
  const reads = new Map<Value, number>();
  for (const v of nodes.flatMap(readsOf)) {
    if (v !== undefined) reads.set(root(v), (reads.get(root(v)) ?? 0) + 1);
  }
  for (const v of results) reads.set(v, Infinity);
  const buffers: Buffer[] = [];
  const bufferOf = new Map<Value, Buffer>();
  /** By type, each in the order of being freed. */
  const free = new Map<string, Buffer[]>();
  for (const [i, node] of nodes.entries()) {
    for (const v of VIEWS.has(node.op) ? [] : node.outputs) {
      const count = reads.get(v);
      if (count === undefined) continue;
      const type = typeOf(v);
      let buffer: Buffer | undefined;
      if (!results.has(v) && !isHidden(v)) {
        const over = IN_PLACE.has(node.op)
          ? node.inputs.find((x) => x && typeOf(x) === type && bufferOf.get(root(x))?.reads === 1)
          : undefined;
        // Else the one freed last.
        buffer = over ? bufferOf.get(root(over)) : free.get(type)?.pop();
      }
      if (buffer === undefined) {
        buffer = { bytes: byteLengthOf(v), type, start: i, end: Infinity, reads: 0 };
        buffers.push(buffer);
      }
      buffer.reads += count;
      bufferOf.set(v, buffer);
    }
    for (const v of readsOf(node)) {
      const buffer = v && bufferOf.get(root(v));
      if (buffer === undefined || --buffer.reads > 0) continue;
      buffer.end = i;
      if (v === undefined || isHidden(root(v))) continue;
      const freed = free.get(buffer.type);
      if (freed === undefined) free.set(buffer.type, [buffer]);
      else freed.push(buffer);
    }
  }
  return peakOf(buffers, within);
}

function typeOf({ shape, dtype }: Value): string {
  return `${shape} of ${BYTES_PER_ELEMENT[dtype]}`;
}

function peakOf(buffers: readonly Buffer[], within: readonly number[]): number {
  const change = within.map(() => 0);
  const add = (i: number, bytes: number) => change[i] = (change[i] ?? 0) + bytes;
  for (const { bytes, start, end } of buffers) {
    add(start, bytes);
    if (end < within.length) add(end + 1, -bytes);
  }
  let [alive, peak] = [0, 0];
  for (const [i, beside] of within.entries()) {
    alive += change[i] ?? 0;
    peak = Math.max(peak, alive + beside);
  }
  return peak;
}
