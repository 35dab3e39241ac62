import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import assert from "node:assert/strict";
import {
  LoadRewardRequestSchema,
  ModelInferRequestSchema,
  ScoreRequestSchema,
  StartRunRequestSchema,
} from "../../proto/mod.ts";
import { faultOf, readMessage } from "./_read_message.ts";

const fault = (...parameters: Parameters<typeof readMessage>) =>
  faultOf(readMessage(...parameters))?.message;

Deno.test("A message is read as it was written, maps and packed numbers included", () => {
  const infer = create(ModelInferRequestSchema, {
    modelName: "clip",
    parameters: { gradient: { parameterChoice: { case: "boolParam", value: true } } },
    inputs: [{
      name: "IMAGE",
      shape: [1n, 3n, 1024n, 1024n],
      contents: { fp32Contents: Array<number>(3 * 1024 * 1024).fill(0.5) },
    }],
  });
  assert.deepEqual(
    readMessage(ModelInferRequestSchema, toBinary(ModelInferRequestSchema, infer)),
    infer,
  );
  const prompts = Array.from({ length: 300_000 }, (_, i) => `prompt ${i}`);
  const run = create(StartRunRequestSchema, {
    config: { prompts: { source: { case: "list", value: { prompts } } } },
  });
  assert.equal(fault(StartRunRequestSchema, toBinary(StartRunRequestSchema, run)), undefined);
});

Deno.test("A message of too many parts is refused before it is read, wherever they are", () => {
  const many = /: it consists of more than 100000 parts$/;
  const imagesField = ScoreRequestSchema.fields.find(({ name }) => name === "images")?.number ?? 0;
  const images = new Uint8Array(400_000);
  for (let i = 0; i < images.length; i += 2) images[i] = 8 * imagesField + 2;
  assert.match(fault(ScoreRequestSchema, images) ?? "", many);
  const unknown = new Uint8Array(400_000);
  for (let i = 0; i < unknown.length; i += 2) unknown.set([15 * 8, 1], i);
  assert.match(fault(ScoreRequestSchema, unknown) ?? "", many);

  // A list of empty values within a value of a map.
  const values = new Uint8Array(400_000);
  for (let i = 0; i < values.length; i += 2) values[i] = 10;
  const nested = (number: number, inner: Uint8Array) =>
    new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(inner).finish();
  const entry = nested(2, nested(6, values));
  const config = LoadRewardRequestSchema.fields.find(({ name }) => name === "config");
  assert.match(
    fault(LoadRewardRequestSchema, nested(config?.number ?? 0, nested(1, entry))) ?? "",
    many,
  );
});

Deno.test("What is no message is told so, and where it breaks", () => {
  const bytes = toBinary(
    ScoreRequestSchema,
    create(ScoreRequestSchema, {
      reward: "clip",
      images: [{ source: { case: "encoded", value: new Uint8Array(9) } }],
    }),
  );
  for (
    const [broken, reason] of [
      [bytes.subarray(0, 8), /: field \d ends beyond it$/],
      [Uint8Array.of(0, 1), /: it has a field 0$/],
      [new Uint8Array(20).fill(255), /: it has a number of more than 10 bytes$/],
      [Uint8Array.of(11), /: field 1 has wire type 3$/],
    ] as const
  ) {
    const message = fault(ScoreRequestSchema, broken) ?? "";
    assert.match(message, /^Request is not a ScoreRequest: /);
    assert.match(message, reason);
  }
  let deep: Uint8Array = new Uint8Array();
  // Value { list_value { values { list_value ... } } }
  for (let i = 0; i < 200; i++) {
    deep = new BinaryWriter().tag(i % 2 ? 6 : 1, WireType.LengthDelimited).bytes(deep).finish();
  }
  const within = (number: number) =>
    deep = new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(deep).finish();
  const config = LoadRewardRequestSchema.fields.find(({ name }) => name === "config");
  [2, 1, config?.number ?? 0].forEach(within);
  assert.match(fault(LoadRewardRequestSchema, deep) ?? "", /nested more than 100 deep$/);
});
