import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import {
  DataType,
  GRPCInferenceService,
  type ModelInferRequestSchema,
  RewardService,
  type ScoreAndGradientRequestSchema,
} from "../../proto/mod.ts";
import { grpcClient, StatusError, type StatusName } from "../../services/rpc/mod.ts";
import { type Outcome, repeat, residentBytes } from "./_resident.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/** Sends `count` bad requests to a reward server in a process of its own. */
export async function hostileRequests(count: number): Promise<Outcome> {
  const config = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(
    config,
    JSON.stringify({
      port: 0,
      threads: 1,
      logLevel: "silent",
      rewards: [{ kind: "symmetry" }, { kind: "clip", weights: path("../../zoo/rewards/clip") }],
      limits: { maxMessageBytes: 4 * 2 ** 20 },
    }),
  );
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", path("../../services/reward/main.ts"), "--config", config],
    stdout: "piped",
  }).spawn();
  try {
    const { value } = await server.stdout.getReader().read();
    const { address } = JSON.parse(new TextDecoder().decode(value));
    const attempts = await attemptsOn(address);
    return await repeat(attempts, { count, resident: () => residentBytes(server.pid) });
  } finally {
    server.kill("SIGTERM");
    await server.status;
    await Deno.remove(config);
  }
}

type Request = MessageInitShape<typeof ScoreAndGradientRequestSchema>;

async function attemptsOn(address: string): Promise<(() => Promise<void>)[]> {
  const rewards = grpcClient(RewardService, address, { maxMessageBytes: 2 ** 26 });
  const oip = grpcClient(GRPCInferenceService, address);
  const refused =
    (status: StatusName, message: RegExp, call: () => Promise<unknown>) => async () => {
      await assert.rejects(call(), (error) => {
        assert(error instanceof StatusError, String(error));
        assert.match(error.message, message);
        assert.equal(error.status, status, error.message);
        return true;
      });
    };
  const refusedRequest = (message: RegExp, request: Request) =>
    refused(
      "INVALID_ARGUMENT",
      message,
      () => rewards.scoreAndGradient({ reward: "symmetry", ...request }),
    );
  const tensor = (value: { dtype?: DataType; shape: number[]; data: Uint8Array }) => ({
    images: [{
      source: { case: "tensor" as const, value: { dtype: DataType.FLOAT32, ...value } },
    }],
  });
  const file = (value: Uint8Array) => ({
    images: [{ source: { case: "encoded" as const, value } }],
  });
  const text = (value: string) => new TextEncoder().encode(value);
  const floats = (length: number, value: number) =>
    new Uint8Array(new Float32Array(length).fill(value).buffer);
  const png = await sharp(new Uint8Array(3 * 64 * 64), {
    raw: { width: 64, height: 64, channels: 3 },
  }).png().toBuffer();
  const declaring = (width: number, height: number) => {
    const bytes = new Uint8Array(png);
    const view = new DataView(bytes.buffer);
    view.setUint32(16, width);
    view.setUint32(20, height);
    return bytes;
  };
  const jpeg = await sharp(png).jpeg().toBuffer();
  const fine = tensor({ shape: [3, 8, 8], data: floats(192, 0.5) });
  const infer = (request: MessageInitShape<typeof ModelInferRequestSchema>) =>
    oip.modelInfer({ modelName: "clip", ...request });
  const image = { name: "IMAGE", datatype: "FP32", shape: [1n, 3n, 8n, 8n] };
  const prompt = { name: "PROMPT", datatype: "BYTES", shape: [1n] };
  return [
    refusedRequest(
      /^Image has a side of 100000 pixels, at most/,
      file(declaring(100_000, 100_000)),
    ),
    refusedRequest(/^Image has a broken header/, file(declaring(0, 0))),
    refusedRequest(/^Image (cannot be decoded|has a broken header): /, file(png.subarray(0, 60))),
    refusedRequest(
      /^Image (cannot be decoded|has a broken header): /,
      file(jpeg.subarray(0, jpeg.length / 2)),
    ),
    refusedRequest(
      /^Image is not a PNG, JPEG or WebP file$/,
      file(text("<svg width='9' height='9'/>")),
    ),
    refusedRequest(/^Image is not a PNG, JPEG or WebP file$/, file(text("PK\x03\x04 a zip"))),
    refusedRequest(/^Image is not a PNG, JPEG or WebP file$/, file(new Uint8Array())),
    refusedRequest(
      /^Image holds NaN at \[0, 0, 0\], expected finite/,
      tensor({ shape: [3, 64, 64], data: floats(3 * 64 * 64, NaN) }),
    ),
    refusedRequest(
      /^Image has 768 bytes; float32 \[3, 100000, 100000\] needs 120000000000$/,
      tensor({ shape: [3, 100_000, 100_000], data: floats(192, 0) }),
    ),
    refusedRequest(
      /^Image has 764 bytes; float32 \[3, 8, 8\] needs 768$/,
      tensor({ shape: [3, 8, 8], data: floats(191, 0) }),
    ),
    refusedRequest(/shape \[3, -8, -8\]/, tensor({ shape: [3, -8, -8], data: floats(192, 0) })),
    refusedRequest(/shape \[\]/, tensor({ shape: [], data: new Uint8Array() })),
    refusedRequest(
      /^Image 0 has dtype 0, expected DATA_TYPE_FLOAT32/,
      tensor({ dtype: DataType.UNSPECIFIED, shape: [3, 8, 8], data: floats(192, 0) }),
    ),
    refusedRequest(/^Image 0 has neither tensor nor file/, { images: [{}] }),
    refusedRequest(/^Request has no image$/, {}),
    refusedRequest(/^Request has 65 images/, {
      images: Array.from({ length: 65 }, () => fine.images[0] ?? {}),
    }),
    refusedRequest(/^Prompt 0 has 1048576 characters, at most 10000/, {
      ...fine,
      reward: "clip",
      prompts: ["a".repeat(2 ** 20)],
    }),
    refusedRequest(/^Prompt 0 is empty/, { ...fine, reward: "clip", prompts: [" \n"] }),
    refusedRequest(/^Request has 3 prompts for 1 images/, {
      ...fine,
      reward: "clip",
      prompts: ["a", "b", "c"],
    }),
    refused(
      "NOT_FOUND",
      /^Reward "x{64}…" is not here; there are clip, symmetry$/,
      () => rewards.score({ ...fine, reward: "x".repeat(100_000) }),
    ),
    refused(
      "RESOURCE_EXHAUSTED",
      /larger than max/,
      () => rewards.score(tensor({ shape: [3, 1000, 500], data: floats(1_500_000, 0.5) })),
    ),
    refused(
      "INVALID_ARGUMENT",
      /^Input PROMPT ends within element 0$/,
      () =>
        infer({
          inputs: [image, prompt],
          rawInputContents: [floats(192, 0.5), Uint8Array.of(255, 255, 255, 255, 97)],
        }),
    ),
    refused(
      "INVALID_ARGUMENT",
      /^Input IMAGE has datatype "FP64", expected FP32 or FP16$/,
      () =>
        infer({
          inputs: [{ ...image, datatype: "FP64" }],
          rawInputContents: [floats(384, 0)],
        }),
    ),
    refused(
      "INVALID_ARGUMENT",
      /^Input PROMPT is not UTF-8$/,
      () =>
        infer({
          inputs: [image, prompt],
          rawInputContents: [floats(192, 0.5), Uint8Array.of(2, 0, 0, 0, 0xff, 0xfe)],
        }),
    ),
  ];
}
