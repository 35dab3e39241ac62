import type { InnerGraph } from "../value_type.ts";
import { plain, spec } from "./_spec.ts";
import { dim, type InferContext, required, type } from "./_types.ts";

function bodyOf(c: InferContext, name: string): InnerGraph {
  const body = c.bodies?.[name];
  if (body === undefined) throw new Error(`Graph ${name} is missing`);
  return body;
}

/** The outputs of one of two graphs, by a boolean scalar. */
const either = plain((c) => {
  const condition = required(c, 0);
  if (condition.dtype !== "bool" || condition.shape.length > 0) {
    throw new Error(`Condition is ${condition.dtype}[${condition.shape}], expected bool[]`);
  }
  const [yes, no] = [bodyOf(c, "then_branch").outputs, bodyOf(c, "else_branch").outputs];
  const types = (outputs: InnerGraph["outputs"]) =>
    outputs.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(", ");
  if (types(yes) !== types(no)) {
    throw new Error(`Branches give ${types(yes)} and ${types(no)}, expected the same`);
  }
  return yes.map(({ dtype, shape }) => type(dtype, shape));
});

/**
 * A graph run once for each row of the last `num_scan_inputs` inputs: the inputs before them are states that each run
 * hands to the next. Outputs are the last states, then what else the graph gives, row by row along a new first axis.
 */
const scan = spec((r) => ({ num_scan_inputs: r.int("num_scan_inputs") }), (c) => {
  const { graph, outputs } = bodyOf(c, "body");
  const inputs = c.inputs.map((_, i) => required(c, i));
  const states = inputs.length - c.attributes.num_scan_inputs;
  const rows = dim(required(c, states).shape, 0);
  for (const [i, v] of inputs.entries()) {
    const declared = graph.inputs[i];
    const fed = i < states ? v.shape : v.shape.slice(1);
    const fits = declared?.dtype === v.dtype && declared.shape.join() === fed.join() &&
      (i < states || dim(v.shape, 0) === rows);
    if (!fits) throw new Error(`Input ${i} does not fit [${declared?.shape}] of the graph inside`);
  }
  for (const [i, v] of outputs.slice(0, states).entries()) {
    const state = required(c, i);
    if (v.dtype !== state.dtype || v.shape.join() !== state.shape.join()) {
      throw new Error(`State ${i} is [${state.shape}] before and [${v.shape}] after a run`);
    }
  }
  return outputs.map(({ dtype, shape }, i) => type(dtype, i < states ? shape : [rows, ...shape]));
});

/** Operators with graphs inside. */
export const CONTROL = { If: either, Scan: scan };
