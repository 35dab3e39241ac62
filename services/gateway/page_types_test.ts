import assert from "node:assert/strict";
import type { DescMessage } from "@bufbuild/protobuf";
import {
  CheckpointEventSchema,
  ChoiceCandidateSchema,
  ChoiceEventSchema,
  DamageEventSchema,
  DescribeTrainerResponseSchema,
  DigestEventSchema,
  EvaluatedPairSchema,
  EvaluationSummarySchema,
  MethodDescriptionSchema,
  ModelDescriptionSchema,
  PanelEventSchema,
  PhaseEstimateSchema,
  PlanRunResponseSchema,
  RewardDescriptionSchema,
  RewardMetricsSchema,
  RewardSummarySchema,
  RewardTermSchema,
  RunSchema,
  SampleReferenceSchema,
  SelfCheckSchema,
  StateEventSchema,
  StepEventSchema,
  SwapEventSchema,
  WorkerSchema,
} from "../../proto/mod.ts";
import { MAY_BE_ABSENT } from "./page/types.ts";

/** The messages that the page reads, and those inside them. */
const READ: readonly DescMessage[] = [
  ...[RunSchema, RewardTermSchema, StepEventSchema, RewardMetricsSchema, SampleReferenceSchema],
  ...[StateEventSchema, SwapEventSchema, PanelEventSchema, CheckpointEventSchema],
  ...[DigestEventSchema, RewardDescriptionSchema, SelfCheckSchema, PlanRunResponseSchema],
  ...[PhaseEstimateSchema, DescribeTrainerResponseSchema, ModelDescriptionSchema],
  ...[ChoiceEventSchema, ChoiceCandidateSchema],
  ...[
    DamageEventSchema,
    MethodDescriptionSchema,
    EvaluatedPairSchema,
    EvaluationSummarySchema,
    RewardSummarySchema,
    WorkerSchema,
  ],
];

Deno.test("The page knows which fields of an answer may be absent: those with presence, and no others", () => {
  const IMPLICIT = 2;
  const ofContract = READ.flatMap(({ typeName, fields }) =>
    fields.map((field) => ({
      name: field.localName,
      field: `${typeName}.${field.name}`,
      mayBeAbsent: field.presence !== IMPLICIT,
    }))
  );
  const names: ReadonlySet<string> = new Set(MAY_BE_ABSENT);
  for (const { name, field, mayBeAbsent } of ofContract) {
    assert.equal(
      names.has(name),
      mayBeAbsent,
      `${field} ${mayBeAbsent ? "may" : "cannot"} be absent`,
    );
  }
  const known = new Set(ofContract.map(({ name }) => name));
  assert.deepEqual(MAY_BE_ABSENT.filter((name) => !known.has(name)), []);
});
