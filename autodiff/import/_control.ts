import type { GraphProto, NodeProto } from "onnx-buf";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { dim, normalizeAxis } from "../infer/_types.ts";
import { int64, type Tensor } from "../tensor.ts";
import type { NodeImporter } from "./_node_importer.ts";
import { type Imported, isSequence, type Scope } from "./_scope.ts";
import { unstack } from "./_unstack.ts";

/** A node with graphs inside, and where it stands. */
interface ControlNode {
  readonly node: NodeProto;
  readonly scope: Scope;
  readonly version: number;
}

/** Runs of one loop. */
const MOST_RUNS = 10_000;

/**
 * What a node with graphs inside gives, `undefined` for every other: branches of which it is known which is taken, and
 * loops of which it is known how often they run, are written out. A condition that only a run decides computes both
 * branches and chooses.
 */
export function control(importer: NodeImporter, at: ControlNode): readonly Imported[] | undefined {
  switch (at.node.opType) {
    case "If":
      return branch(importer, at);
    case "Loop":
      return loop(importer, at);
    case "Scan":
      return scan(importer, at);
    default:
      return undefined;
  }
}

function bodyOf({ attribute }: NodeProto, name: string): GraphProto {
  const body = attribute.find((a) => a.name === name)?.g;
  if (body === undefined) throw new ImportError(`Attribute ${name} is missing, expected a graph`);
  return body;
}

/** Appends a graph inside a node, its inputs as given, and returns its outputs. */
function run(
  importer: NodeImporter,
  body: GraphProto,
  { scope, inputs }: { readonly scope: Scope; readonly inputs: readonly Imported[] },
): readonly Imported[] {
  const inside = scope.inside();
  for (const [i, { name }] of body.input.entries()) inside.define(name, inputs[i]);
  importer.graph(body, inside);
  return body.output.map(({ name }) => inside.find(name));
}

/** Whether a boolean scalar holds, where that is known. */
function known(condition: Value | undefined): boolean | undefined {
  const tensor = constantOf(condition);
  return tensor === undefined ? undefined : Number(tensor.data[0]) !== 0;
}

function branch(importer: NodeImporter, { node, scope }: ControlNode): readonly Imported[] {
  const condition = scope.tensor(node.input[0] ?? "");
  if (condition === undefined) throw new ImportError("Condition is missing");
  const outputs = (name: string) => run(importer, bodyOf(node, name), { scope, inputs: [] });
  const taken = known(condition);
  if (taken !== undefined) return outputs(taken ? "then_branch" : "else_branch");
  const [yes, no] = [outputs("then_branch"), outputs("else_branch")];
  const scalar = importer.b.reshape(condition, []);
  return yes.map((v, i) => choose(importer.b, scalar, v, no[i]));
}

function choose(b: Builder, condition: Value, yes: Imported, no: Imported): Value {
  if (yes === undefined || no === undefined || isSequence(yes) || isSequence(no)) {
    throw new ImportError("If whose condition is only known in a run gives no tensor");
  }
  if (yes.dtype !== no.dtype || yes.shape.join() !== no.shape.join()) {
    throw new ImportError(
      `If whose condition is only known in a run gives ${yes.dtype}[${yes.shape}] or ` +
        `${no.dtype}[${no.shape}], expected the same type from both`,
    );
  }
  return b.where(condition, yes, no);
}

function whole(value: number): Tensor {
  return int64([value], []);
}

function loop(importer: NodeImporter, { node, scope }: ControlNode): readonly Imported[] {
  const { b } = importer;
  const body = bodyOf(node, "body");
  const [count, condition, ...states] = node.input.map((name) => scope.find(name));
  if (isSequence(count) || isSequence(condition)) {
    throw new ImportError("Inputs 0 and 1 are sequences, expected tensors");
  }
  const most = count === undefined ? Infinity : Number(constantOf(count)?.data[0] ?? NaN);
  let goesOn = condition === undefined ? true : known(condition);
  let current: readonly Imported[] = states;
  const rows: Value[][] = [];
  for (let i = 0; goesOn !== false && i !== most; i++) {
    if (goesOn === undefined || Number.isNaN(most)) {
      throw new ImportError(
        "Loop runs as often as the image says, which is not supported: how often must be known on load",
      );
    }
    if (i >= MOST_RUNS) throw new ImportError(`Loop runs more than ${MOST_RUNS} times`);
    const inputs = [b.constant(whole(i)), condition, ...current];
    const [next, ...outputs] = run(importer, body, { scope, inputs });
    if (isSequence(next)) throw new ImportError("Loop gives a sequence as its condition");
    goesOn = known(next);
    current = outputs.slice(0, states.length);
    for (const [k, v] of outputs.slice(states.length).entries()) push(rows, k, v);
  }
  const scanned = body.output.length - 1 - states.length;
  if (scanned > 0 && rows.length === 0) {
    throw new ImportError("Loop runs not once, and gives rows of which nothing is known");
  }
  return [...current, ...rows.map((list) => stack(b, list, 0))];
}

function push(rows: Value[][], k: number, v: Imported): void {
  if (v === undefined || isSequence(v)) throw new ImportError("A row is no tensor");
  (rows[k] ??= []).push(v);
}

function stack(b: Builder, rows: readonly Value[], axis: number): Value {
  return b.concat(rows.map((row) => b.unsqueeze(row, [axis])), axis);
}

function scan(importer: NodeImporter, { node, scope, version }: ControlNode): readonly Imported[] {
  if (version < 9) throw new ImportError("Scan of opset 8 is not supported, expected 9 or newer");
  const { b } = importer;
  const body = bodyOf(node, "body");
  const inputs = node.input.map((name) => scope.tensor(name));
  const ints = (name: string) =>
    node.attribute.find((a) => a.name === name)?.ints.map(Number) ?? [];
  const taken = Number(node.attribute.find(({ name }) => name === "num_scan_inputs")?.i ?? 0n);
  let states: readonly Imported[] = inputs.slice(0, inputs.length - taken);
  const count = states.length;
  const sources = inputs.slice(count).map((x, k) => {
    if (x === undefined) throw new ImportError(`Input ${count + k} is missing`);
    const axis = normalizeAxis(ints("scan_input_axes")[k] ?? 0, x.shape.length);
    const length = dim(x.shape, axis);
    if (length > MOST_RUNS) throw new ImportError(`Scan runs more than ${MOST_RUNS} times`);
    const list = unstack(b, x, axis);
    return ints("scan_input_directions")[k] === 1 ? list.toReversed() : list;
  });
  const rows: Value[][] = [];
  for (const [i, first] of (sources[0] ?? []).entries()) {
    const given = sources.map((list, k) => k === 0 ? first : list[i]);
    const outputs = run(importer, body, { scope, inputs: [...states, ...given] });
    states = outputs.slice(0, count);
    for (const [k, v] of outputs.slice(count).entries()) push(rows, k, v);
  }
  return [
    ...states,
    ...rows.map((list, k) => {
      const axis = normalizeAxis(
        ints("scan_output_axes")[k] ?? 0,
        (list[0]?.shape.length ?? 0) + 1,
      );
      return stack(b, ints("scan_output_directions")[k] === 1 ? list.toReversed() : list, axis);
    }),
  ];
}
