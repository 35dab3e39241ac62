import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  DataType,
  Direction,
  type EvaluateResponseSchema,
  type Image,
  Processing,
  type RewardDescriptionSchema,
  RewardService,
  type TensorSchema,
  type TimingSchema,
} from "../../proto/mod.ts";
import type { Images } from "../../rewards/mod.ts";
import {
  type GrpcService,
  grpcService,
  type Handlers,
  StatusError,
  toStatusError,
} from "../rpc/mod.ts";
import { mapConcurrently } from "./_map_concurrently.ts";
import { encodeValues, type WireDType } from "./_wire_tensor.ts";
import type { Limits } from "./limits.ts";
import type { HostedReward, RewardHost } from "./reward_host.ts";
import { type ImageInput, rewardErrors, scoreImages, type ScoreResult } from "./score_images.ts";

/** Images of one stream that are in work at a time: two batches, so that the next one waits when one is done. */
const STREAM_WINDOW = 16;

/** `drtune.reward.v1.RewardService` over the rewards of a host. */
export function rewardService(host: RewardHost, limits: Limits): GrpcService {
  return grpcService(RewardService, rewardHandlers(host, limits), { mapError: rewardErrors });
}

/** The handlers of `rewardService`, to be called without a port. */
export function rewardHandlers(host: RewardHost, limits: Limits): Handlers<typeof RewardService> {
  return {
    // deno-lint-ignore require-await -- a refusal must be a rejection
    async describe({ reward }) {
      // Part of the rewards would be taken for all of them.
      if (!reward && host.starting) throw new StatusError("UNAVAILABLE", "Rewards are loading");
      const rewards = reward
        ? [host.get(reward)]
        : host.list().flatMap(({ reward }) => reward ?? []);
      return {
        rewards: rewards.map((reward) => description(reward, limits)),
        defaultReward: host.defaultName ?? "",
      };
    },

    async score({ reward, images, prompts, processing }, { signal }) {
      const request = {
        reward,
        images: images.map(input),
        prompts,
        gradient: false,
        ...processingOf(processing),
      };
      const result = await scoreImages(request, { host, limits, signal });
      return {
        scores: [...result.scores],
        reward: result.info.name,
        digest: result.info.digest,
        timing: timing(result),
        truncatedPrompts: [...result.truncated],
      };
    },

    async scoreAndGradient({ reward, images, prompts }, { signal }) {
      const request = { reward, images: images.map(input), prompts, gradient: true };
      const result = await scoreImages(request, { host, limits, signal });
      return {
        scores: [...result.scores],
        gradients: await Promise.all(
          result.gradients.map((gradient, i) => wireGradient(gradient, images[i])),
        ),
        reward: result.info.name,
        digest: result.info.digest,
        timing: timing(result),
        truncatedPrompts: [...result.truncated],
      };
    },

    evaluate(requests, { signal }) {
      return mapConcurrently(
        requests,
        STREAM_WINDOW,
        async ({ index, reward, image, prompt, gradient, processing }): Promise<Evaluated> => {
          try {
            if (!image) throw new StatusError("INVALID_ARGUMENT", "Request has no image");
            const one = { ...limits, maxImages: 1 };
            const request = {
              reward,
              images: [input(image)],
              prompts: [prompt],
              gradient,
              ...processingOf(processing),
            };
            const { scores: [score = NaN], gradients: [found], truncated, info } =
              await scoreImages(
                request,
                { host, limits: one, signal },
              );
            const promptTruncated = truncated.length > 0;
            const value = { score, reward: info.name, digest: info.digest, promptTruncated };
            const evaluation = found
              ? { ...value, gradient: await wireGradient(found, image) }
              : value;
            return { index, result: { case: "evaluation", value: evaluation } };
          } catch (error) {
            signal.throwIfAborted();
            const { code, status, message } = toStatusError(error, rewardErrors);
            // A fault of the server ends the stream, for it is to be logged; the others are the image's own.
            if (status === "INTERNAL") throw error;
            return { index, result: { case: "error", value: { code, message } } };
          }
        },
      );
    },
  };
}

type Evaluated = MessageInitShape<typeof EvaluateResponseSchema>;

/** A reward's facts as they travel. */
export function description(
  { info }: HostedReward,
  limits: Limits,
): MessageInitShape<typeof RewardDescriptionSchema> {
  const { range: [lowest, highest], direction, fileProcessing, ...rest } = info;
  return {
    ...rest,
    lowest,
    highest,
    direction: direction === "maximise" ? Direction.MAXIMISE : Direction.MINIMISE,
    fileProcessing: fileProcessing === "tensor" ? Processing.TENSOR : Processing.REFERENCE,
    limits,
  };
}

function input({ source }: Image, index = 0): ImageInput {
  switch (source.case) {
    case "encoded":
      return { file: source.value };
    case "tensor": {
      const { dtype, shape, data } = source.value;
      const name = DTYPES.get(dtype);
      if (name) return { tensor: { dtype: name, shape, data } };
      throw new StatusError(
        "INVALID_ARGUMENT",
        `Image ${index} has dtype ${dtype}, expected DATA_TYPE_FLOAT32 or DATA_TYPE_FLOAT16`,
      );
    }
    case undefined:
      throw new StatusError("INVALID_ARGUMENT", `Image ${index} has neither tensor nor file`);
  }
}

const DTYPES: ReadonlyMap<DataType, WireDType> = new Map([
  [DataType.FLOAT32, "float32"],
  [DataType.FLOAT16, "float16"],
]);

const PROCESSINGS: ReadonlyMap<Processing, "tensor" | "reference"> = new Map([
  [Processing.TENSOR, "tensor"],
  [Processing.REFERENCE, "reference"],
]);

function processingOf(wire: Processing) {
  const processing = PROCESSINGS.get(wire);
  if (processing) return { processing };
  if (wire === Processing.UNSPECIFIED) return {};
  throw new StatusError("INVALID_ARGUMENT", `Processing is ${wire}, expected a known one`);
}

/** A gradient in the dtype and shape of the image it belongs to; float32 [3, H, W] for a file. */
async function wireGradient(
  { data, shape }: Images,
  image: Image | undefined,
): Promise<MessageInitShape<typeof TensorSchema>> {
  const tensor = image?.source.case === "tensor" ? image.source.value : undefined;
  const dtype = tensor?.dtype ?? DataType.FLOAT32;
  return {
    dtype,
    shape: tensor?.shape ?? shape.slice(1),
    data: await encodeValues(data, DTYPES.get(dtype) ?? "float32"),
  };
}

function timing(
  { queueSeconds, computeSeconds }: ScoreResult,
): MessageInitShape<typeof TimingSchema> {
  return { queueSeconds, computeSeconds };
}
