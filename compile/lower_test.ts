import assert from "node:assert/strict";
import {
  belongsTo,
  Builder,
  checkStage,
  gradient,
  type Graph,
  type Node,
} from "../autodiff/mod.ts";
import { lower } from "./lower.ts";
import { PLAIN_POLICY, type Policy } from "./policy.ts";

function nodesOf(graph: Graph): readonly Node[] {
  return graph.nodes.flatMap((node) => [
    node,
    ...Object.values(node.bodies).flatMap((body) => nodesOf(body.graph)),
  ]);
}

/** A score of all that no runtime has, with its gradient in a branch. */
function written() {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [1, 4, 8, 8] });
  const one = b.fill(1, { dtype: "float32", shape: [4] });
  const y = b.groupNorm(x, { groups: 2, scale: one, bias: one, epsilon: 1e-5, silu: true });
  const tokens = b.reshape(b.transpose(y, [0, 2, 3, 1]), [1, 64, 4]);
  const attended = b.attention(tokens, tokens, tokens, { heads: 2 });
  const score = b.sum(b.straightThrough(attended, b.stopGradient(b.round(attended))), {
    keepDims: false,
  });
  const [slope] = b.either(b.input("wanted", { dtype: "bool", shape: [] }), {
    yes: (into) =>
      gradient(b, [{ value: score, cotangent: into.scalar(1, "float32") }], [x], { into }),
    no: () => [x],
  });
  assert.ok(slope);
  return { b, outputs: [score, slope] };
}

Deno.test("what is differentiated has operators of its own, what is runnable none that no runtime has", () => {
  const { b, outputs } = written();
  const own = nodesOf(b).map(({ op }) => op).filter((op) => !belongsTo("runnable", op));
  assert.deepEqual([...new Set(own)].sort(), [
    "AttentionGrad",
    "GroupNormalization",
    "GroupNormalizationGrad",
    "StopGradient",
    "StraightThrough",
  ]);
  const policies: Readonly<Record<string, [Partial<Policy>, scans: number]>> = {
    whole: [{}, 0],
    "attention in blocks": [{ attentionMemory: 0 }, 4],
    "normalization by group": [{ normalizationMemory: 0 }, 1],
    "both in blocks": [{ attentionMemory: 0, normalizationMemory: 0 }, 5],
  };
  for (const [name, [policy, scans]] of Object.entries(policies)) {
    const nodes = nodesOf(lower(b, outputs, { ...PLAIN_POLICY, ...policy }).graph);
    assert.equal(nodes.filter(({ op }) => op === "Scan").length, scans, name);
  }
});

Deno.test("a graph as it is written holds no operator that only gradients have", () => {
  const { b } = written();
  assert.doesNotThrow(() => checkStage(b, "differentiated"));
  assert.throws(
    () => checkStage(b, "written"),
    /^GraphError: grad\/Attention\/AttentionGrad: no written graph has operator AttentionGrad$/,
  );
});

Deno.test("an operator that no runtime has is found inside a node, too", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [3] });
  b.scan({ rows: [x] }, (b, { rows }) => ({ rows: rows.map((v) => b.stopGradient(v)) }));
  assert.throws(
    () => checkStage(b, "runnable"),
    /^GraphError: Scan\/StopGradient: no runnable graph has operator StopGradient$/,
  );
});
