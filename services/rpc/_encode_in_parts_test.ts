import assert from "node:assert/strict";
import { create, type DescMessage, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  DataType,
  EvaluateResponseSchema,
  GetRunResponseSchema,
  ListRunsResponseSchema,
  ModelInferResponseSchema,
  SampleResponseSchema,
  ScoreAndGradientResponseSchema,
} from "../../proto/mod.ts";
import { Buffer } from "node:buffer";
import { encodeInParts, holdsBytes } from "./_encode_in_parts.ts";

const pixels = (length: number) => Uint8Array.from({ length }, (_, i) => i * 31 % 251);
const gradient = (length: number) => ({
  dtype: DataType.FLOAT32,
  shape: [1, 3, 2, length / 24],
  data: pixels(length),
});

function keeps<S extends DescMessage>(schema: S, fields: MessageInitShape<S>) {
  const message = create(schema, fields);
  assert.ok(holdsBytes(schema));
  const whole = new Uint8Array(Buffer.concat(encodeInParts(schema, message)));
  assert.deepEqual(fromBinary(schema, whole), message);
}

Deno.test("A message encoded in parts is the same message", () => {
  keeps(ScoreAndGradientResponseSchema, {
    scores: [0.5, -1],
    gradients: [gradient(1_200_000), gradient(24), {}],
    reward: "clip",
    digest: "0f",
    timing: { queueSeconds: 0.25 },
  });
  keeps(ScoreAndGradientResponseSchema, {});
  keeps(SampleResponseSchema, { prompt: "é", seed: 7, png: pixels(3) });
  const value = { score: 1, gradient: gradient(48) };
  keeps(EvaluateResponseSchema, { index: 3, result: { case: "evaluation", value } });
  const error = { code: 3, message: "No image" };
  keeps(EvaluateResponseSchema, { index: 4, result: { case: "error", value: error } });
  keeps(ModelInferResponseSchema, {
    modelName: "clip",
    outputs: [{ name: "SCORE", datatype: "FP32", shape: [2n] }],
    rawOutputContents: [pixels(8), pixels(0)],
    parameters: { digest: { parameterChoice: { case: "stringParam", value: "0f" } } },
  });
});

Deno.test("Messages without bytes are known", () => {
  assert.equal(holdsBytes(GetRunResponseSchema), false);
  assert.equal(holdsBytes(ListRunsResponseSchema), false);
});
