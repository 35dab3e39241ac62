import { type Attributes, intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { dim, normalizeAxis } from "../infer/_types.ts";
import { int64 } from "../tensor.ts";
import { type Imported, isSequence } from "./_scope.ts";
import { unstack } from "./_unstack.ts";

/** A node that makes or takes a sequence. */
interface SequenceNode {
  readonly inputs: readonly Imported[];
  readonly attributes: Attributes;
}

type SequenceOperator = (b: Builder, node: SequenceNode) => Imported;

function items({ inputs }: SequenceNode, i = 0): readonly Value[] {
  const v = inputs[i];
  if (!isSequence(v)) throw new ImportError(`Input ${i} is no sequence`);
  return v.items;
}

function tensor({ inputs }: SequenceNode, i: number): Value {
  const v = inputs[i];
  if (v === undefined || isSequence(v)) throw new ImportError(`Input ${i} is no tensor`);
  return v;
}

/** The place that an input names, of `size` places; the last one where it is left out. */
function place(node: SequenceNode, i: number, size: number): number {
  if (node.inputs[i] === undefined) return size - 1;
  const at = constantOf(tensor(node, i))?.data[0];
  if (at === undefined) {
    throw new ImportError("Position in a sequence is computed, expected a constant");
  }
  const index = Number(at) < 0 ? Number(at) + size : Number(at);
  if (index >= 0 && index < size) return index;
  throw new ImportError(`Position ${at} is outside of a sequence of ${size}`);
}

const splitToSequence: SequenceOperator = (b, node) => {
  const x = tensor(node, 0);
  const axis = normalizeAxis(intOf(node.attributes, "axis", 0), x.shape.length);
  if (node.inputs[1] === undefined) {
    if (intOf(node.attributes, "keepdims", 1) === 0) return { items: unstack(b, x, axis) };
    return { items: b.split(x, Array.from({ length: dim(x.shape, axis) }, () => 1), axis) };
  }
  const given = constantOf(tensor(node, 1));
  if (given === undefined) throw new ImportError("Split is computed, expected a constant");
  const sizes = Array.from(given.data, Number);
  if (given.shape.length > 0) return { items: b.split(x, sizes, axis) };
  const [total, part] = [dim(x.shape, axis), sizes[0] ?? 0];
  if (!(part > 0)) throw new ImportError(`Split is ${part}, expected 1 or more`);
  const parts = Array.from(
    { length: Math.ceil(total / part) },
    (_, i) => Math.min(part, total - i * part),
  );
  return { items: b.split(x, parts, axis) };
};

const concatFromSequence: SequenceOperator = (b, node) => {
  const all = items(node);
  const axis = intOf(node.attributes, "axis", 0);
  const isNew = intOf(node.attributes, "new_axis", 0) === 1;
  const rank = (all[0]?.shape.length ?? 0) + Number(isNew);
  const at = normalizeAxis(axis, rank);
  return b.concat(isNew ? all.map((v) => b.unsqueeze(v, [at])) : all, at);
};

/** Operators on sequences of tensors, which are gone when a model has been imported. */
export const SEQUENCES: Readonly<Record<string, SequenceOperator>> = {
  ConcatFromSequence: concatFromSequence,
  SequenceAt: (_b, node) => items(node)[place(node, 1, items(node).length)],
  SequenceConstruct: (_b, node) => ({ items: node.inputs.map((_, i) => tensor(node, i)) }),
  SequenceEmpty: () => ({ items: [] }),
  SequenceErase: (_b, node) => {
    const at = place(node, 1, items(node).length);
    return { items: items(node).filter((_, i) => i !== at) };
  },
  SequenceInsert: (_b, node) => {
    const all = items(node);
    return { items: all.toSpliced(place(node, 2, all.length + 1), 0, tensor(node, 1)) };
  },
  SequenceLength: (b, node) => b.constant(int64([items(node).length], [])),
  SplitToSequence: splitToSequence,
};
