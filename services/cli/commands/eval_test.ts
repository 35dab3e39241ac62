import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { EvaluationSummarySchema } from "../../../proto/mod.ts";
import { parseCommand } from "../command.ts";
import { evaluate, table } from "./eval.ts";

Deno.test("an evaluation is shown as a table with differences and intervals", () => {
  const summary = create(EvaluationSummarySchema, {
    pairs: 24,
    step: 40,
    rewards: {
      objectness: {
        ...{ before: 0.803, after: 0.131, difference: -0.672, lower: -0.736, upper: -0.609 },
        smallerIsBetter: true,
      },
      clip: { before: 20.5, after: 21, difference: 0.5, lower: -0.125, upper: 1.125 },
    },
  });
  assert.equal(
    table(summary),
    [
      "reward                        without    with  difference       95 % interval",
      "objectness (lower is better)   0.8030  0.1310     -0.6720  -0.7360 to -0.6090",
      "clip (higher is better)         20.50   21.00     +0.5000   -0.1250 to +1.125",
      "",
      "24 pairs of images at the same prompt and seed, LoRA of step 40; the interval is of the mean " +
      "paired difference.",
    ].join("\n"),
  );
  assert.match(table({ ...summary, pairs: 1 }), /-0\.6720 +-\n[^]*\n1 pair of images/);
});

Deno.test("of two sides a checkpoint is written behind the run", async () => {
  const words = ["books-1", "--step", "20", "--benchmark", "prompts"];
  await assert.rejects(
    evaluate.run(parseCommand(evaluate, words), new AbortController().signal),
    /^UsageError: Option --step is for one run; .*RUN@40/,
  );
});
