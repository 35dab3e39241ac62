import { floatOf, intOf, stringOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { type Conversion, type Conversions, type ForeignNode, given } from "./_node.ts";
import { unstack } from "./_unstack.ts";
import { activated } from "./convert_math.ts";

/** Steps that are written out. */
const MOST_STEPS = 1024;

/** What a direction of a recurrent network has of its own. */
interface Cell {
  readonly b: Builder;
  readonly node: ForeignNode;
  /** Wᵀ x + bias of every step, [B, gates·H] each. */
  readonly steps: readonly Value[];
  /** Rᵀ, [H, gates·H]. */
  readonly recurrent: Value;
  /** Of the recurrent product, [gates·H]. */
  readonly recurrentBias: Value | undefined;
  /** Peepholes of an LSTM, [3·H]. */
  readonly peepholes: Value | undefined;
  /** Activation `i` of this direction. */
  readonly activate: (x: Value, i: number) => Value;
}

/** States after a step, the first being what the network gives. */
type Step = (cell: Cell, x: Value, states: readonly Value[]) => readonly Value[];

const part = (b: Builder, x: Value, count: number): readonly Value[] => {
  const width = dim(x.shape, -1) / count;
  return b.split(x, Array.from({ length: count }, () => width), x.shape.length - 1);
};

function need(v: Value | undefined): Value {
  if (v === undefined) throw new ImportError("A part of a recurrent network is missing");
  return v;
}

const rnn: Step = ({ b, recurrent, recurrentBias, activate }, x, [h]) => {
  const sum = b.add(x, b.matMul(need(h), recurrent));
  return [activate(recurrentBias === undefined ? sum : b.add(sum, recurrentBias), 0)];
};

const lstm: Step = (cell, x, [h, c]) => {
  const { b, recurrent, recurrentBias, peepholes, activate } = cell;
  const sum = b.add(x, b.matMul(need(h), recurrent));
  const [i, o, f, g] = part(b, recurrentBias === undefined ? sum : b.add(sum, recurrentBias), 4);
  const [pi, po, pf] = peepholes === undefined ? [] : part(b, peepholes, 3);
  const peep = (v: Value | undefined, p: Value | undefined, state: Value) =>
    p === undefined ? need(v) : b.add(need(v), b.mul(p, state));
  const before = need(c);
  const input = activate(peep(i, pi, before), 0);
  const forget = activate(peep(f, pf, before), 0);
  const next = b.add(b.mul(forget, before), b.mul(input, activate(need(g), 1)));
  const out = activate(peep(o, po, next), 0);
  return [b.mul(out, activate(next, 2)), next];
};

const gru: Step = (cell, x, [h]) => {
  const { b, node, recurrent, recurrentBias, activate } = cell;
  const before = need(h);
  const [xz, xr, xh] = part(b, x, 3);
  const isAfter = intOf(node.attributes, "linear_before_reset", 0) === 1;
  const [rz, rr, rh] = part(b, recurrent, 3);
  const biases = recurrentBias === undefined ? [] : part(b, recurrentBias, 3);
  const product = (state: Value, w: Value | undefined, i: number) => {
    const y = b.matMul(state, need(w));
    const own = biases[i];
    return own === undefined ? y : b.add(y, own);
  };
  const update = activate(b.add(need(xz), product(before, rz, 0)), 0);
  const reset = activate(b.add(need(xr), product(before, rr, 1)), 0);
  const inner = isAfter
    ? b.mul(reset, product(before, rh, 2))
    : product(b.mul(reset, before), rh, 2);
  const candidate = activate(b.add(need(xh), inner), 1);
  return [b.add(b.mul(b.sub(1, update), candidate), b.mul(update, before))];
};

/** A kind of recurrent network. */
interface Kind {
  readonly states: number;
  readonly activations: readonly string[];
  readonly step: Step;
}

/** The steps of a recurrent network written out, one after the other: how many is known from the input's shape. */
const recurrentNetwork = ({ states, activations, step }: Kind): Conversion => (b, node) => {
  const { attributes, lists } = node;
  const isBatchFirst = intOf(attributes, "layout", 0) === 1;
  const given0 = given(node, 0);
  const x = isBatchFirst ? b.transpose(given0, [1, 0, 2]) : given0;
  const [length = 0, batch = 1] = x.shape;
  const [w, r, bias, lengths] = [given(node, 1), given(node, 2), node.inputs[3], node.inputs[4]];
  const hidden = dim(r.shape, 2);
  const count = dim(w.shape, 0);
  const known = constantOf(lengths)?.data;
  if (lengths !== undefined && !(known && Array.from(known, Number).every((n) => n === length))) {
    throw new ImportError(`${node.op} of sequences of different lengths is not supported`);
  }
  if (length > MOST_STEPS) {
    throw new ImportError(`${node.op} of ${length} steps is too long, at most ${MOST_STEPS}`);
  }
  const clip = attributes["clip"] === undefined ? undefined : floatOf(attributes, "clip", 0);
  if (intOf(attributes, "input_forget", 0) === 1) {
    throw new ImportError("Attribute input_forget is 1, expected 0");
  }
  const direction = stringOf(attributes, "direction", "forward");
  const only = (v: Value, d: number) =>
    b.squeeze(b.slice(v, { axis: 0, start: d, end: d + 1 }), [0]);
  const initial = (i: number, d: number) => {
    const v = node.inputs[i];
    if (v === undefined) return b.expand(b.scalar(0, x.dtype), [batch, hidden]);
    return only(isBatchFirst ? b.transpose(v, [1, 0, 2]) : v, d);
  };
  const directions = Array.from({ length: count }, (_, d) => {
    const isReverse = direction === "reverse" || d === 1;
    const [input, recurrentBias] = bias === undefined ? [] : part(b, only(bias, d), 2);
    const product = b.matMul(x, b.transpose(only(w, d), [1, 0]));
    const rows = unstack(b, input === undefined ? product : b.add(product, input), 0);
    const names = lists.strings["activations"]?.slice(
      d * activations.length,
      (d + 1) * activations.length,
    ) ?? activations;
    const peepholes = node.inputs[7];
    const cell: Cell = {
      b,
      node,
      steps: isReverse ? rows.toReversed() : rows,
      recurrent: b.transpose(only(r, d), [1, 0]),
      recurrentBias,
      peepholes: peepholes && only(peepholes, d),
      activate: (v, i) => {
        const clipped = clip === undefined ? v : b.min(b.max(v, -clip), clip);
        return activated(b, clipped, {
          name: names[i] ?? "",
          alpha: lists.floats["activation_alpha"]?.[d * activations.length + i],
          beta: lists.floats["activation_beta"]?.[d * activations.length + i],
        });
      },
    };
    let current: readonly Value[] = Array.from({ length: states }, (_, k) => initial(5 + k, d));
    const outputs: Value[] = [];
    for (const row of cell.steps) {
      current = step(cell, row, current);
      outputs.push(need(current[0]));
    }
    return { outputs: isReverse ? outputs.reverse() : outputs, last: current };
  });
  // [T, D, B, H]
  const y = b.concat(
    Array.from({ length }, (_, t) =>
      b.unsqueeze(
        b.concat(directions.map(({ outputs }) => b.unsqueeze(need(outputs[t]), [0])), 0),
        [0],
      )),
    0,
  );
  const lasts = Array.from({ length: states }, (_, k) => {
    const all = b.concat(directions.map(({ last }) => b.unsqueeze(need(last[k]), [0])), 0);
    return isBatchFirst ? b.transpose(all, [1, 0, 2]) : all;
  });
  return [isBatchFirst ? b.transpose(y, [2, 0, 1, 3]) : y, ...lasts];
};

/** Recurrent networks. */
export const RECURRENT: Conversions = {
  GRU: recurrentNetwork({ states: 1, activations: ["Sigmoid", "Tanh"], step: gru }),
  LSTM: recurrentNetwork({
    states: 2,
    activations: ["Sigmoid", "Tanh", "Tanh"],
    step: lstm,
  }),
  RNN: recurrentNetwork({ states: 1, activations: ["Tanh"], step: rnn }),
};
