import { float32 } from "../../autodiff/mod.ts";
import { type RewardClient, RewardUnavailableError } from "../run/mod.ts";
import { batchOf, type Float32Tensor } from "../tensors.ts";

/** A reward in closed form: the mean of (pixel - target)^2, to be minimised. Its digest is its target. */
export class FakeReward implements RewardClient {
  readonly direction = "minimise";
  digest: string;
  readonly #target: number;
  /** Answers `RewardUnavailableError` while set. */
  isAway = false;
  calls = 0;
  /** Called before every answer. */
  onCall: () => unknown = () => {};

  constructor(target: number) {
    this.#target = target;
    this.digest = String(target);
  }

  async score(images: Float32Tensor, _prompts: readonly string[]) {
    this.calls++;
    await this.onCall();
    if (this.isAway) throw new RewardUnavailableError("The fake reward is away");
    const rows = batchOf(images);
    const size = images.data.length / rows;
    const scores = new Float32Array(rows);
    const gradient = images.data.map((p, i) => {
      const row = Math.floor(i / size);
      scores[row] = (scores[row] ?? 0) + (p - this.#target) ** 2 / size;
      return 2 * (p - this.#target) / size;
    });
    return { scores, gradient: float32(gradient, images.shape) };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
