import { int, intOf, stringOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { type Conversions, type ForeignNode, given, names } from "./_node.ts";

/** Minus what log-probabilities [N, C, ...] have at a class of each place [N, ...], weighted by class, reduced. */
function negativeLogLikelihood(
  b: Builder,
  node: ForeignNode,
  logs: Value,
): Value {
  const [target, weights] = [given(node, 1), node.inputs[2]];
  const reduction = stringOf(node.attributes, "reduction", "mean");
  const ignored = node.attributes["ignore_index"] === undefined
    ? undefined
    : intOf(node.attributes, "ignore_index", 0);
  const kept = ignored === undefined
    ? undefined
    : b.cast(b.call("Not", [b.equal(target, ignored)]), logs.dtype);
  const classes = ignored === undefined
    ? target
    : b.where(b.equal(target, ignored), b.scalar(0, target.dtype), target);
  const at = b.unsqueeze(classes, [1]);
  const chosen = b.squeeze(b.call("GatherElements", [logs, at], { axis: int(1) }), [1]);
  const own = weights === undefined ? undefined : b.gather(weights, classes);
  const weight = own === undefined ? kept : kept === undefined ? own : b.mul(own, kept);
  const loss = b.neg(weight === undefined ? chosen : b.mul(chosen, weight));
  switch (reduction) {
    case "none":
      return loss;
    case "sum":
      return b.sum(loss, { keepDims: false });
    case "mean":
      return weight === undefined
        ? b.mean(loss, { keepDims: false })
        : b.div(b.sum(loss, { keepDims: false }), b.sum(weight, { keepDims: false }));
    default:
      throw new ImportError(`Attribute reduction is "${reduction}", which is unknown`);
  }
}

/** Losses, which some scores are. */
export const LOSSES: Conversions = {
  NegativeLogLikelihoodLoss: (b, node) => negativeLogLikelihood(b, node, given(node, 0)),
  SoftmaxCrossEntropyLoss: (b, node) => {
    const logs = b.call("LogSoftmax", [given(node, 0)], { axis: int(1) });
    return [negativeLogLikelihood(b, node, logs), names(node, 1) ? logs : undefined];
  },
};
