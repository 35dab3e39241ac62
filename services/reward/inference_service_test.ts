import { create, type MessageInitShape } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import {
  ModelInferRequestSchema,
  ModelMetadataRequestSchema,
  ModelReadyRequestSchema,
  RepositoryIndexRequestSchema,
  RepositoryModelLoadRequestSchema,
  RepositoryModelUnloadRequestSchema,
} from "../../proto/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { inferenceHandlers } from "./inference_service.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { LocalRewardHost } from "./reward_host.ts";
import { fakeReward } from "./testing/fake_reward.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

const host = new LocalRewardHost({
  log: createLogger({ level: "silent" }),
  start: (name, record) => Promise.resolve(fakeReward({ ...record, name })),
});
await host.load("mean", { scale: 2 });
await host.load("prompted", { readsPrompt: true });
const handlers = inferenceHandlers(host, { limits: DEFAULT_LIMITS });
const context = { signal: new AbortController().signal, peer: "test", metadata: () => undefined };

type Request = MessageInitShape<typeof ModelInferRequestSchema>;
const infer = async (request: Request) =>
  await handlers.modelInfer(create(ModelInferRequestSchema, request), context);

const IMAGE = { name: "IMAGE", datatype: "FP32", shape: [2n, 3n, 2n, 2n] };
const { data } = flatImages([0.5, 1]);
const RAW = new Uint8Array(data.buffer);

/** Raw BYTES elements. */
function elements(...texts: string[]): Uint8Array {
  return Uint8Array.from(texts.flatMap((text) => {
    const bytes = new TextEncoder().encode(text);
    return [...new Uint8Array(Uint32Array.of(bytes.length).buffer), ...bytes];
  }));
}

Deno.test("Raw contents are answered raw, with the digest", async () => {
  const response = await infer({
    modelName: "mean",
    id: "42",
    inputs: [IMAGE],
    rawInputContents: [RAW],
    outputs: [{ name: "GRADIENT" }, { name: "SCORE" }],
  });
  assert.deepEqual([response.modelName, response.modelVersion, response.id], ["mean", "1", "42"]);
  assert.deepEqual(response.parameters?.digest?.parameterChoice?.value, "scale 2");
  assert.deepEqual(response.outputs, [
    { name: "GRADIENT", datatype: "FP32", shape: [2n, 3n, 2n, 2n] },
    { name: "SCORE", datatype: "FP32", shape: [2n] },
  ]);
  const [gradient, scores] =
    response.rawOutputContents?.map((bytes) => new Float32Array(bytes.slice().buffer)) ?? [];
  assert.deepEqual(scores, Float32Array.of(1, 2));
  assert.deepEqual(gradient, new Float32Array(24).fill(2 / 12));
});

Deno.test("Typed contents are answered typed, and the score alone when nothing is named", async () => {
  const response = await infer({
    modelName: "prompted",
    inputs: [
      { ...IMAGE, contents: { fp32Contents: [...data] } },
      {
        name: "PROMPT",
        datatype: "BYTES",
        shape: [2n],
        contents: { bytesContents: ["a", "ebé"].map((text) => new TextEncoder().encode(text)) },
      },
    ],
  });
  assert.deepEqual(response.outputs, [
    { name: "SCORE", datatype: "FP32", shape: [2n], contents: { fp32Contents: [1.5, 4] } },
  ]);
  assert.deepEqual(response.rawOutputContents, []);
});

Deno.test("FP16 images get FP16 gradients, and one prompt serves all", async () => {
  const half = new Float16Array(data);
  const response = await infer({
    modelName: "prompted",
    inputs: [
      { ...IMAGE, datatype: "FP16" },
      { name: "PROMPT", datatype: "BYTES", shape: [1n] },
    ],
    rawInputContents: [new Uint8Array(half.buffer), elements("🦊b")],
    outputs: [{ name: "SCORE" }, { name: "GRADIENT" }],
  });
  const [scores, gradient] = response.rawOutputContents ?? [];
  assert.deepEqual([...new Float32Array(scores?.slice().buffer ?? new ArrayBuffer())], [3.5, 4]);
  assert.equal(response.outputs?.[1]?.datatype, "FP16");
  assert.deepEqual(
    new Float16Array(gradient?.slice().buffer ?? new ArrayBuffer()),
    new Float16Array(24).fill(1 / 12),
  );
});

Deno.test("Bad inference requests are refused with what was found and expected", async () => {
  const good = { modelName: "mean", inputs: [IMAGE], rawInputContents: [RAW] };
  const prompt = (shape: bigint[], raw: Uint8Array, datatype = "BYTES") => ({
    modelName: "prompted",
    inputs: [IMAGE, { name: "PROMPT", datatype, shape }],
    rawInputContents: [RAW, raw],
  });
  const cases: [Request, RegExp][] = [
    [{ ...good, modelName: "" }, /^Request names no model$/],
    [{ ...good, inputs: [], rawInputContents: [] }, /^Input IMAGE is missing$/],
    [
      { ...good, inputs: [{ ...IMAGE, name: "X" }] },
      /^Input "X" is unknown, expected IMAGE and PROMPT$/,
    ],
    [
      { ...good, inputs: [IMAGE, IMAGE], rawInputContents: [RAW, RAW] },
      /^An input is given twice$/,
    ],
    [
      { ...good, inputs: [{ ...IMAGE, datatype: "UINT8" }] },
      /datatype "UINT8", expected FP32 or FP16$/,
    ],
    [
      { ...good, inputs: [{ ...IMAGE, shape: [2n, 3n, 2n, 3n] }] },
      /96 bytes; float32 \[2, 3, 2, 3\] needs 144$/,
    ],
    [
      { ...good, inputs: [{ ...IMAGE, shape: [2n ** 62n, 3n, 2n, 2n] }] },
      /expected \[B, 3, H, W\]/,
    ],
    [{ ...good, rawInputContents: [RAW, RAW] }, /^Request has 2 raw contents for 1 inputs$/],
    [{ ...good, inputs: [{ ...IMAGE, contents: {} }] }, /^Request has both raw and typed contents/],
    [
      { ...good, inputs: [{ ...IMAGE, datatype: "FP16", contents: {} }], rawInputContents: [] },
      /FP16, which must be raw$/,
    ],
    [
      { ...good, inputs: [{ ...IMAGE, contents: { fp32Contents: [1] } }], rawInputContents: [] },
      /4 bytes; float32 .* needs 96$/,
    ],
    [
      { ...good, outputs: [{ name: "LOGITS" }] },
      /^Output "LOGITS" is unknown, expected SCORE or GRADIENT$/,
    ],
    [prompt([2n], elements("a")), /^Input PROMPT has 1 elements; shape \[2\] needs 2$/],
    [prompt([1n], elements("ab").subarray(0, 5)), /^Input PROMPT ends within element 0$/],
    [prompt([1n], Uint8Array.of(255, 255, 255, 255)), /^Input PROMPT ends within element 0$/],
    [prompt([1n], Uint8Array.of(1, 0, 0, 0, 255)), /^Input PROMPT is not UTF-8$/],
    [prompt([1n], elements("a"), "FP32"), /datatype "FP32", expected BYTES$/],
    [
      prompt([2n], elements(...Array<string>(65).fill(""))),
      /^Input PROMPT has more than 64 elements, the most images that are taken$/,
    ],
    [prompt([1n], new Uint8Array(2 ** 24)), /^Input PROMPT has more than 64 elements/],
    [
      {
        ...good,
        inputs: [{ ...IMAGE, contents: { fp32Contents: [...data] } }, {
          name: "PROMPT",
          datatype: "BYTES",
          shape: [65n],
          contents: { bytesContents: Array<Uint8Array>(65).fill(new Uint8Array()) },
        }],
        rawInputContents: [],
      },
      /^Input PROMPT has more than 64 elements/,
    ],
    [
      prompt([1n], elements("x".repeat(30_001))),
      /^Prompt 0 has 30001 bytes, more than 10000 characters can have$/,
    ],
    [{ ...good, modelName: "prompted" }, /^Request has 0 prompts for 2 images/],
  ];
  for (const [request, message] of cases) {
    await assert.rejects(infer(request), hasStatus("INVALID_ARGUMENT", message), String(message));
  }
  await assert.rejects(
    infer({ ...good, modelName: "x" }),
    hasStatus("NOT_FOUND", /mean, prompted/),
  );
  await assert.rejects(
    infer({ ...prompt([1n], Uint8Array.of(255)), modelName: "x" }),
    hasStatus("NOT_FOUND", /mean, prompted/),
  );
  await assert.rejects(
    infer({ ...good, modelVersion: "2" }),
    hasStatus("NOT_FOUND", /^Version 2 of mean is not here; there is 1$/),
  );
});

Deno.test("Metadata and readiness follow the host", async () => {
  const metadata = async (name: string) =>
    await handlers.modelMetadata(create(ModelMetadataRequestSchema, { name }), context);
  assert.deepEqual((await metadata("mean")).inputs?.map(({ name }) => name), ["IMAGE"]);
  assert.deepEqual((await metadata("prompted")).inputs?.map(({ name }) => name), [
    "IMAGE",
    "PROMPT",
  ]);
  const ready = async (name: string, version = "") =>
    (await handlers.modelReady(create(ModelReadyRequestSchema, { name, version }), context)).ready;
  assert.deepEqual(
    [await ready("mean"), await ready("mean", "1"), await ready("mean", "3"), await ready("x")],
    [true, true, false, false],
  );
});

Deno.test("The repository is served to administrators only", async () => {
  const index = create(RepositoryIndexRequestSchema, {});
  await assert.rejects(
    async () => await handlers.repositoryIndex(index, context),
    hasStatus("UNIMPLEMENTED", /admin port only/),
  );
  const admin = inferenceHandlers(host, {
    limits: DEFAULT_LIMITS,
    admin: { host, token: "unused here" },
  });
  const load = async (config: string) =>
    await admin.repositoryModelLoad(
      create(RepositoryModelLoadRequestSchema, {
        modelName: "third",
        parameters: { config: { parameterChoice: { case: "stringParam", value: config } } },
      }),
      context,
    );
  await load(JSON.stringify({ scale: 5 }));
  const { models = [] } = await admin.repositoryIndex(index, context);
  assert.deepEqual(models.map(({ name, state }) => [name, state]), [
    ["mean", "READY"],
    ["prompted", "READY"],
    ["third", "READY"],
  ]);
  assert.equal(host.get("third").info.digest, "scale 5");
  await assert.rejects(load("{"), hasStatus("INVALID_ARGUMENT", /^Parameter config is not JSON/));
  await assert.rejects(load("[]"), hasStatus("INVALID_ARGUMENT", /not a JSON object$/));
  await admin.repositoryModelUnload(
    create(RepositoryModelUnloadRequestSchema, { modelName: "third" }),
    context,
  );
  assert.equal(host.list().length, 2);
});
