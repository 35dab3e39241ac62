import { createLogger } from "../../base/mod.ts";
import { DataType, Direction, RewardService } from "../../proto/mod.ts";
import {
  type GrpcServer,
  grpcService,
  startGrpcServer,
  StatusError,
} from "../../services/rpc/mod.ts";

/**
 * A reward server that takes no processor: a call waits so long for each of its images, not more than `places` calls at a
 * time, and is answered with the images' first pixels and gradients of one.
 */
export async function startWaitingReward(
  { seconds, places }: { readonly seconds: number; readonly places: number },
): Promise<GrpcServer> {
  const missing = () => Promise.reject(new StatusError("UNIMPLEMENTED", "Not part of this"));
  const turns = Array.from({ length: Math.min(places, 64) }, () => Promise.resolve());
  let calls = 0;
  return await startGrpcServer({
    services: [grpcService(RewardService, {
      describe: () =>
        Promise.resolve({
          rewards: [{
            ...{ name: "waits", digest: "00", direction: Direction.MAXIMISE },
            limits: { maxImages: 64 },
          }],
          defaultReward: "waits",
        }),
      score: missing,
      scoreAndGradient: async ({ images }) => {
        const source = images[0]?.source;
        if (source?.case !== "tensor") throw new StatusError("INVALID_ARGUMENT", "No tensor");
        const { shape } = source.value;
        const [count = 1] = shape;
        const turn = calls++ % turns.length;
        const done = (turns[turn] ?? Promise.resolve()).then(() =>
          new Promise<void>((resolve) => setTimeout(resolve, 1000 * seconds * count))
        );
        turns[turn] = done;
        await done;
        const ones = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1);
        const data = new Uint8Array(ones.buffer);
        return {
          scores: Array.from({ length: count }, () => 1),
          gradients: [{ dtype: DataType.FLOAT32, shape, data }],
          ...{ reward: "waits", digest: "00" },
        };
      },
      evaluate: async function* () {},
    })],
    port: 0,
    log: createLogger({ level: "silent" }),
  });
}
