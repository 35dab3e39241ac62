import { type Reward, RewardInputError } from "../../rewards/mod.ts";
import { encodeFrame, type Frame, readFrame, readStdin, writeStdout } from "../../runtime/mod.ts";
import {
  encodeInfo,
  requestSchema,
  type WorkerReply,
  type WorkerSettings,
} from "./_worker_messages.ts";

/**
 * The whole of a reward's process: loads the reward that the first frame on stdin asks for, then scores, one frame
 * after another. Ends with stdin, so also when the parent dies.
 */
export async function serveReward(
  load: (record: Record<string, unknown>, settings: WorkerSettings) => Promise<Reward>,
): Promise<void> {
  // Frames go to stdout; what anyone prints must not.
  console.log = console.error;
  // Ctrl-C reaches the whole group of processes; what to do about it is the parent's to decide.
  Deno.addSignalListener("SIGINT", () => {});

  let reward: Reward | undefined;
  const handle = async ({ message, tensors: [images] }: Frame): Promise<Frame> => {
    const request = requestSchema.parse(message);
    if (request.op === "load") {
      reward = await load(request.record, request.settings);
      // What building the graph has left would stay for as long as nothing else is allocated here, which may be for ever.
      Reflect.get(globalThis, "gc")?.();
      return reply({ info: encodeInfo(reward.info) });
    }
    if (!reward) throw new TypeError("Asked to score before a load");
    if (images?.dtype !== "float32") throw new TypeError("Asked to score without images");
    const { prompts, gradient, processing } = request;
    const result = await reward.score(images, prompts, { gradient, processing });
    const scores = {
      dtype: "float32",
      shape: [result.scores.length],
      data: result.scores,
    } as const;
    const { truncated } = result;
    return {
      message: truncated ? { truncated } : {},
      tensors: result.gradient ? [scores, result.gradient] : [scores],
    };
  };

  for (let frame = await readFrame(readStdin); frame; frame = await readFrame(readStdin)) {
    const answer = await handle(frame).catch((error) => reply({ error: describe(error) }));
    for (const chunk of encodeFrame(answer)) writeStdout(chunk);
  }
  Deno.exit();
}

function reply(message: WorkerReply): Frame {
  return { message, tensors: [] };
}

function describe(error: unknown): WorkerReply["error"] {
  const { message, stack = "" } = error instanceof Error ? error : new Error(String(error));
  return { input: error instanceof RewardInputError, message, stack };
}
