import { DataType, Direction, RewardService } from "../../../proto/mod.ts";
import { type GrpcService, grpcService, StatusError } from "../../rpc/mod.ts";

/** A reward server whose scores are the number of bytes of each file. */
export function fakeReward(name: string): GrpcService {
  const digest = "0f".repeat(32);
  const size = (source: { readonly case?: string | undefined; readonly value?: unknown }) => {
    if (source.case === "encoded" && source.value instanceof Uint8Array) return source.value.length;
    throw new StatusError("INVALID_ARGUMENT", "Field images[0] is no file");
  };
  return grpcService(RewardService, {
    describe: () =>
      Promise.resolve({
        rewards: [{
          name,
          kind: name,
          direction: name === "symmetry" ? Direction.MINIMISE : Direction.MAXIMISE,
          lowest: 0,
          highest: Infinity,
          readsPrompt: name !== "symmetry",
          preprocessing: "bicubic 224, centre crop",
          digest,
          provider: "cpu",
          selfCheck: { score: 0.31, gradientNorm: 0.021, relativeError: 3e-5 },
        }],
      }),
    score: ({ images }) =>
      Promise.resolve({ scores: images.map(({ source }) => size(source)), reward: name, digest }),
    scoreAndGradient: ({ images }) =>
      Promise.resolve({
        scores: images.map(({ source }) => size(source)),
        gradients: images.map(() => ({
          dtype: DataType.FLOAT32,
          shape: [0],
          data: new Uint8Array(),
        })),
        reward: name,
        digest,
      }),
    async *evaluate(requests) {
      for await (const { index, image } of requests) {
        const score = size(image?.source ?? {});
        yield { index, result: { case: "evaluation", value: { score, reward: name, digest } } };
      }
    },
  });
}
