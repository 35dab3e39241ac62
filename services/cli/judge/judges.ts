import { decodeImage, type Images, type Reward } from "../../../rewards/mod.ts";
import { concatBatch, type PromptReading, rewardPrompt } from "../../../trainer/mod.ts";
import { type ClientTls, RemoteReward } from "../../rpc/mod.ts";
import { KEEPALIVE } from "../check_answers.ts";

/** A picture and the prompt that it is judged by. */
export interface JudgedPicture {
  readonly prompt: string;
  /** A PNG, JPEG or WebP file's bytes. */
  readonly image: Uint8Array;
}

/** Scores of pictures, by the reward's name, in the pictures' order. */
export type Scores = Readonly<Record<string, readonly number[]>>;

/** Most pictures that are asked for at once. */
const BATCH = 16;

/** Rewards that judge pictures, by name. */
export class Judges implements AsyncDisposable {
  readonly rewards: ReadonlyMap<string, Reward>;
  readonly #readings: ReadonlyMap<string, PromptReading>;

  /** @param readings what rewards read in place of a picture's prompt, of those that do */
  constructor(
    rewards: ReadonlyMap<string, Reward>,
    readings: ReadonlyMap<string, PromptReading> = new Map(),
  ) {
    this.rewards = rewards;
    this.#readings = readings;
  }

  /** Connects to rewards by the addresses of their servers. Throws `StatusError` where one does not answer. */
  static async connect(
    addresses: ReadonlyMap<string, string>,
    tls: ClientTls = {},
  ): Promise<Judges> {
    const options = { timeoutMs: 600_000, retry: { attempts: 4 }, keepalive: KEEPALIVE, tls };
    const connected = await Promise.all(
      [...addresses].map(async ([name, address]) =>
        [name, await RemoteReward.connect(address, options)] as const
      ),
    );
    return new Judges(new Map(connected));
  }

  /** Whether a greater score of this reward is better. */
  isUp(name: string): boolean {
    return this.rewards.get(name)?.info.direction !== "minimise";
  }

  /**
   * Scores pictures by every reward, each as its published package prepares a picture file. Throws `FieldError` where a
   * reward reads a column of a line of prompts, which a picture's prompt is not.
   */
  async score(pictures: readonly JudgedPicture[], signal?: AbortSignal): Promise<Scores> {
    const scores: Record<string, number[]> = {};
    const images = await Promise.all(pictures.map(({ image }) => decodeImage(image)));
    for (const batch of batchesOf(images)) {
      const stacked = concatBatch(batch.flatMap((i) => images[i] ?? []));
      const prompts = batch.map((i) => pictures[i]?.prompt ?? "");
      for (const [name, reward] of this.rewards) {
        // Pictures of a folder may have no prompt.
        const reading = this.#readings.get(name);
        const read = reading === undefined
          ? prompts
          : prompts.map((prompt) => rewardPrompt(prompt, reading, `rewards.${name}`));
        const { scores: found } = await reward.score(stacked, read, {
          processing: reward.info.fileProcessing,
          ...(signal && { signal }),
        });
        const own = scores[name] ??= [];
        batch.forEach((at, i) => own[at] = found[i] ?? NaN);
      }
    }
    return scores;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.rewards.values()].map((reward) => reward.dispose()));
  }
}

/** Indices of images that are scored together: of one size, in order. */
function batchesOf(images: readonly Images[]): readonly (readonly number[])[] {
  const sizes = Map.groupBy(images.keys(), (i) => images[i]?.shape.join("x"));
  return [...sizes.values()].flatMap((all) =>
    Array.from(
      { length: Math.ceil(all.length / BATCH) },
      (_, b) => all.slice(b * BATCH, (b + 1) * BATCH),
    )
  );
}
