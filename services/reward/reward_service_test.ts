import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import sharp from "sharp";
import {
  DataType,
  EvaluateRequestSchema,
  Processing,
  ScoreAndGradientRequestSchema,
  ScoreRequestSchema,
} from "../../proto/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { type StatusName, toStatusError } from "../rpc/mod.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { LocalRewardHost } from "./reward_host.ts";
import { rewardHandlers } from "./reward_service.ts";
import { rewardErrors } from "./score_images.ts";
import { fakeReward } from "./testing/fake_reward.ts";
import { flatImages } from "./testing/images.ts";
import { hasStatus } from "./testing/status.ts";

const limits = {
  ...DEFAULT_LIMITS,
  maxImages: 4,
  maxPixels: 1000,
  maxSide: 100,
  maxPromptLength: 20,
};
const host = new LocalRewardHost({
  log: createLogger({ level: "silent" }),
  start: (name, record) => Promise.resolve(fakeReward({ ...record, name })),
});
await host.load("mean", { scale: 2 });
await host.load("prompted", { readsPrompt: true });
const handlers = rewardHandlers(host, limits);
const context = { signal: new AbortController().signal, peer: "test", metadata: () => undefined };

type Request = MessageInitShape<typeof ScoreAndGradientRequestSchema>;

function score(request: Request) {
  return handlers.scoreAndGradient(create(ScoreAndGradientRequestSchema, request), context);
}

function pixels(data: ArrayBufferView, shape: number[], dtype = DataType.FLOAT32) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { source: { case: "tensor" as const, value: { dtype, shape, data: bytes } } };
}

function flat(values: readonly number[], height = 2, width = 2) {
  const { data, shape } = flatImages(values, height, width);
  return pixels(data, [...shape]);
}

function file(bytes: Uint8Array) {
  return { source: { case: "encoded" as const, value: bytes } };
}

function floats(bytes: Uint8Array | undefined): number[] {
  return [...new Float32Array(bytes?.slice().buffer ?? new ArrayBuffer(0))];
}

Deno.test("Describe tells the facts of one reward or of all", async () => {
  const describe = (reward: string) =>
    handlers.describe({ $typeName: "drtune.reward.v1.DescribeRequest", reward }, context);
  const { rewards = [] } = await describe("mean");
  const [found] = rewards;
  assert.equal(found?.name, "mean");
  assert.equal(found.digest, "scale 2");
  assert.deepEqual([found.lowest, found.highest], [0, Infinity]);
  assert.equal(found.selfCheck?.gradientNorm, 0.5);
  assert.equal(found.limits?.maxSide, 100);
  assert.deepEqual((await describe("")).rewards?.map(({ name }) => name), ["mean", "prompted"]);
  await assert.rejects(
    describe("other"),
    hasStatus("NOT_FOUND", /^Reward "other" is not here; there are mean, prompted$/),
  );
});

Deno.test("Tensors are scored with gradients in their own shape and dtype", async () => {
  const half = new Float16Array(3 * 2 * 3).fill(0.25);
  const { scores, gradients, reward, digest } = await score({
    reward: "mean",
    images: [flat([0.5, -1, 4]), pixels(half, [3, 2, 3], DataType.FLOAT16)],
  });
  assert.deepEqual(scores, [1, -2, 8, 0.5]);
  assert.deepEqual([reward, digest], ["mean", "scale 2"]);
  assert.deepEqual(gradients?.map(({ shape, dtype }) => [shape, dtype]), [
    [[3, 3, 2, 2], DataType.FLOAT32],
    [[3, 2, 3], DataType.FLOAT16],
  ]);
  assert.deepEqual(floats(gradients?.[0]?.data), Array(36).fill(Math.fround(2 / 12)));
  const bytes = gradients?.[1]?.data;
  assert.deepEqual(
    new Float16Array(bytes?.slice().buffer ?? new ArrayBuffer(0)),
    new Float16Array(18).fill(2 / 18),
  );
});

Deno.test("Pixel bytes need no alignment", async () => {
  const { data } = flatImages([0.5]);
  const shifted = new Uint8Array(data.byteLength + 1);
  shifted.set(new Uint8Array(data.buffer), 1);
  const { scores } = await score({
    reward: "mean",
    images: [pixels(shifted.subarray(1), [1, 3, 2, 2])],
  });
  assert.deepEqual(scores, [1]);
});

Deno.test("PNG and JPEG files are scored as their 8-bit RGB values over 255", async () => {
  const raw = Uint8Array.from({ length: 5 * 7 * 4 }, (_, i) => (i * 37) % 256);
  const image = sharp(raw, { raw: { width: 7, height: 5, channels: 4 } });
  const png = await image.png().toBuffer();
  const rgb = raw.filter((_, i) => i % 4 !== 3);
  const grey = await sharp(raw.slice(0, 35), { raw: { width: 7, height: 5, channels: 1 } })
    .toColourspace("b-w").png().toBuffer();
  const jpeg = await sharp({ create: { width: 8, height: 16, channels: 3, background: "#3c78f0" } })
    .jpeg({ quality: 100, chromaSubsampling: "4:4:4" }).toBuffer();
  const { scores = [], gradients } = await score({
    reward: "mean",
    images: [file(png), file(grey), file(jpeg)],
  });
  const mean = (values: Uint8Array) =>
    2 * values.reduce((sum, v) => sum + v, 0) / values.length / 255;
  // float32 sums of a hundred values.
  assert(Math.abs((scores[0] ?? 0) - mean(rgb)) < 1e-6);
  assert(Math.abs((scores[1] ?? 0) - mean(raw.slice(0, 35))) < 1e-6);
  // The JPEG's colour comes back within one level.
  assert(Math.abs((scores[2] ?? 0) - mean(Uint8Array.of(0x3c, 0x78, 0xf0))) < 2 / 255);
  assert.deepEqual(gradients?.map(({ shape }) => shape), [[3, 5, 7], [3, 5, 7], [3, 16, 8]]);
});

Deno.test("Scores of files are the reference's and scores of tensors exact, unless asked otherwise", async () => {
  const png = await sharp({ create: { width: 2, height: 2, channels: 3, background: "#fff" } })
    .png().toBuffer();
  const scored = async (request: MessageInitShape<typeof ScoreRequestSchema>) => {
    const { scores } = await handlers.score(create(ScoreRequestSchema, request), context);
    return scores;
  };
  const request = { reward: "mean", images: [file(png), flat([1])] };
  assert.deepEqual(await scored(request), [102, 2]);
  assert.deepEqual(await scored({ ...request, processing: Processing.TENSOR }), [2, 2]);
  assert.deepEqual(await scored({ ...request, processing: Processing.REFERENCE }), [102, 102]);
  assert.deepEqual((await score(request)).scores, [2, 2]);
  await assert.rejects(
    scored({
      ...request,
      processing: fromBinary(ScoreRequestSchema, Uint8Array.of(0x20, 9)).processing,
    }),
    hasStatus("INVALID_ARGUMENT", /^Processing is 9/),
  );
});

Deno.test("Each image gets its own prompt, or all the only one", async () => {
  const images = [flat([0, 0]), flat([0], 3, 3)];
  const one = await score({ reward: "prompted", images, prompts: ["abcd"] });
  assert.deepEqual(one.scores, [4, 4, 4]);
  const each = await score({ reward: "prompted", images, prompts: ["a", "bb", "ccc"] });
  assert.deepEqual(each.scores, [1, 2, 3]);
  assert.deepEqual(each.truncatedPrompts, []);
  const cut = await score({ reward: "prompted", images, prompts: ["a…", "bb", "ccc…"] });
  assert.deepEqual(cut.truncatedPrompts, [0, 2]);
});

Deno.test("Bad input is refused with what was found and expected", async () => {
  const png = await sharp({ create: { width: 90, height: 10, channels: 3, background: "#fff" } })
    .png().toBuffer();
  const wide = await sharp({ create: { width: 101, height: 1, channels: 3, background: "#fff" } })
    .png().toBuffer();
  const huge = png.slice();
  const header = new DataView(huge.buffer, huge.byteOffset);
  header.setUint32(16, 100_000);
  header.setUint32(20, 100_000);
  header.setUint32(29, crc32(huge.subarray(12, 29)));
  const nan = flatImages([0, 0]).data;
  nan[17] = NaN;
  const infinite = new Float16Array(12).fill(1);
  infinite[3] = -Infinity;
  const good = flatImages([0]).data;
  const prompted = { reward: "prompted", images: [flat([0])] };
  const cases: [string, Request, StatusName, RegExp][] = [
    [
      "no name",
      { images: [flat([0])] },
      "INVALID_ARGUMENT",
      /^Reward is not named; there are mean, prompted$/,
    ],
    ["unknown", { reward: "x", images: [flat([0])] }, "NOT_FOUND", /there are mean, prompted/],
    ["no image", { reward: "mean" }, "INVALID_ARGUMENT", /^Request has no image$/],
    [
      "empty image",
      { reward: "mean", images: [{}] },
      "INVALID_ARGUMENT",
      /^Image 0 has neither tensor nor file$/,
    ],
    [
      "dtype",
      { reward: "mean", images: [pixels(good, [1, 3, 2, 2], DataType.UNSPECIFIED)] },
      "INVALID_ARGUMENT",
      /has dtype 0, expected DATA_TYPE_FLOAT32/,
    ],
    [
      "rank",
      { reward: "mean", images: [pixels(good, [12])] },
      "INVALID_ARGUMENT",
      /shape \[12\], expected \[B, 3, H, W\]/,
    ],
    [
      "channels",
      { reward: "mean", images: [pixels(good, [1, 2, 2, 3])] },
      "INVALID_ARGUMENT",
      /shape \[1, 2, 2, 3\]/,
    ],
    [
      "empty batch",
      { reward: "mean", images: [pixels(new Uint8Array(), [0, 3, 2, 2])] },
      "INVALID_ARGUMENT",
      /shape \[0, 3, 2, 2\]/,
    ],
    [
      "negative",
      { reward: "mean", images: [pixels(good, [-1, 3, -2, 2])] },
      "INVALID_ARGUMENT",
      /shape \[-1, 3, -2, 2\]/,
    ],
    [
      "bytes",
      { reward: "mean", images: [pixels(good, [1, 3, 2, 3])] },
      "INVALID_ARGUMENT",
      /^Image has 48 bytes; float32 \[1, 3, 2, 3\] needs 72$/,
    ],
    [
      "half bytes",
      { reward: "mean", images: [pixels(good, [1, 3, 2, 2], DataType.FLOAT16)] },
      "INVALID_ARGUMENT",
      /has 48 bytes; float16 \[1, 3, 2, 2\] needs 24$/,
    ],
    [
      "overflow",
      { reward: "mean", images: [pixels(good, [2 ** 31 - 1, 3, 2 ** 31 - 1, 2 ** 31 - 1])] },
      "INVALID_ARGUMENT",
      /needs 1\.\d+e\+29/,
    ],
    [
      "NaN",
      { reward: "mean", images: [flat([0]), pixels(nan, [2, 3, 2, 2])] },
      "INVALID_ARGUMENT",
      /^Image 1 holds NaN at \[1, 1, 0, 1\], expected finite values$/,
    ],
    [
      "infinite",
      { reward: "mean", images: [pixels(infinite, [3, 2, 2], DataType.FLOAT16)] },
      "INVALID_ARGUMENT",
      /holds -Infinity at \[0, 1, 1\]/,
    ],
    [
      "side",
      { reward: "mean", images: [flat([0], 101, 1)] },
      "INVALID_ARGUMENT",
      /^Image has a side of 101 pixels, at most 100 are taken$/,
    ],
    [
      "pixels",
      { reward: "mean", images: [flat([0], 30, 30), flat([0], 11, 11)] },
      "INVALID_ARGUMENT",
      /^Request has 1021 pixels, at most 1000 are taken$/,
    ],
    [
      "images",
      { reward: "mean", images: [flat([0, 0, 0]), flat([0, 0])] },
      "INVALID_ARGUMENT",
      /^Request has 5 images, at most 4 are taken$/,
    ],
    [
      "not a picture",
      { reward: "mean", images: [file(new TextEncoder().encode("<svg/>"))] },
      "INVALID_ARGUMENT",
      /^Image is not a PNG, JPEG or WebP file$/,
    ],
    [
      "broken header",
      { reward: "mean", images: [file(png.subarray(0, 20))] },
      "INVALID_ARGUMENT",
      /^Image has a broken header: /,
    ],
    [
      "truncated",
      { reward: "mean", images: [file(png.subarray(0, 60))] },
      "INVALID_ARGUMENT",
      /^Image has a broken header: /,
    ],
    [
      "wide file",
      { reward: "mean", images: [file(wide)] },
      "INVALID_ARGUMENT",
      /side of 101 pixels/,
    ],
    [
      "bomb",
      { reward: "mean", images: [file(huge)] },
      "INVALID_ARGUMENT",
      /^Image has a side of 100000 pixels/,
    ],
    [
      "no prompt",
      prompted,
      "INVALID_ARGUMENT",
      /^Request has 0 prompts for 1 images; reward prompted reads the prompt/,
    ],
    [
      "prompts",
      { ...prompted, prompts: ["a", "b"] },
      "INVALID_ARGUMENT",
      /has 2 prompts for 1 images/,
    ],
    ["empty prompt", { ...prompted, prompts: [" \n"] }, "INVALID_ARGUMENT", /^Prompt 0 is empty/],
    [
      "long prompt",
      { ...prompted, prompts: ["x".repeat(21)] },
      "INVALID_ARGUMENT",
      /^Prompt 0 has 21 characters, at most 20 are taken$/,
    ],
    [
      "refused by the reward",
      { ...prompted, prompts: ["refuse"] },
      "INVALID_ARGUMENT",
      /^Prompt is refused$/,
    ],
  ];
  for (const [name, request, status, message] of cases) {
    await assert.rejects(
      async () => await score(request),
      (error) => hasStatus(status, message)(toStatusError(error, rewardErrors)),
      name,
    );
  }
});

Deno.test("A picture is not decoded where its pixels have no room in the queue", async () => {
  const narrow = new LocalRewardHost({
    log: createLogger({ level: "silent" }),
    start: (name, record) => Promise.resolve(fakeReward({ ...record, name })),
    maxQueuedBytes: 2 * 48,
  });
  await narrow.load("mean", {});
  const { score: scored } = rewardHandlers(narrow, limits);
  const png = await sharp({ create: { width: 2, height: 2, channels: 3, background: "#fff" } })
    .png().toBuffer();
  const broken = Uint8Array.from(png);
  // Within the compressed pixels: the header is whole.
  broken.fill(0, png.indexOf("IDAT") + 4, png.indexOf("IEND") - 8);
  const ask = async (files: readonly Uint8Array[]) =>
    await scored(create(ScoreRequestSchema, { images: files.map(file) }), context);
  await assert.rejects(ask([broken]), /cannot be decoded/);
  await assert.rejects(
    ask([png, broken, broken]),
    hasStatus("RESOURCE_EXHAUSTED", /2 images of 96 bytes wait, at most 256 of 96 may/),
  );
  await narrow.close();
});

Deno.test("Scores that are not finite are a fault of the reward, not an answer", async () => {
  await assert.rejects(
    async () => await score({ reward: "prompted", images: [flat([0])], prompts: ["nan"] }),
    hasStatus("INTERNAL", /^Reward prompted scores image 0 NaN$/),
  );
});

Deno.test("Evaluate answers each image under its index, faults too, and does not wait for more input", async () => {
  const answered = Promise.withResolvers<void>();
  async function* requests() {
    const request = (index: number, value: number, prompt: string) =>
      create(EvaluateRequestSchema, {
        index,
        reward: "prompted",
        image: flat([value]),
        prompt,
        gradient: index === 7,
      });
    yield request(7, 0.5, "a");
    await answered.promise;
    yield request(3, 1, "");
    yield request(9, 1, "refuse");
    yield create(EvaluateRequestSchema, { index: 4, reward: "mean", image: flat([1, 2]) });
    yield request(5, 1, "bb");
  }
  const results = new Map<unknown, unknown>();
  for await (const { index, result } of handlers.evaluate(requests(), context)) {
    if (index === 7) answered.resolve();
    const value = result?.value;
    if (result?.case === "error") results.set(index, result.value?.message);
    else if (value && "score" in value) {
      results.set(index, [value.score, floats(value.gradient?.data)[0]]);
    }
  }
  assert.deepEqual([...results.keys()].sort(), [3, 4, 5, 7, 9]);
  assert.deepEqual(results.get(7), [1.5, Math.fround(1 / 12)]);
  assert.deepEqual(results.get(5), [3, undefined]);
  assert.match(String(results.get(3)), /^Prompt 0 is empty/);
  assert.match(String(results.get(4)), /2 images, at most 1 are taken/);
  assert.equal(results.get(9), "Prompt is refused");
});
