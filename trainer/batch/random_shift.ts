import { float32 } from "../../autodiff/mod.ts";
import { batchOf, type Float32Tensor } from "../tensors.ts";
import type { RewardSource } from "./reward_source.ts";

/** Columns dropped at the left and rows dropped at the top of an image. */
export interface Shift {
  readonly x: number;
  readonly y: number;
}

/**
 * A reward that sees windows of the images: of height H - `most` and width W - `most`, at the offsets that `shifts`
 * gives, one per image, each 0 to `most`. A reward's reduction then samples other pixels
 * each time, and every window has the same size. The gradient is that of the whole image, 0 outside the window.
 */
export function shifted(
  reward: RewardSource,
  { most, shifts }: { readonly most: number; readonly shifts: readonly Shift[] },
): RewardSource {
  if (most === 0) return reward;
  return {
    async evaluate(images, prompts, options) {
      const [, , height = 1, width = 1] = images.shape;
      const size = { height: height - most, width: width - most };
      if (size.height < 1 || size.width < 1) {
        throw new RangeError(`A shift of ${most} leaves nothing of images of [${images.shape}]`);
      }
      const windows = float32(
        new Float32Array(images.data.length / (height * width) * size.height * size.width),
        [...images.shape.slice(0, 2), size.height, size.width],
      );
      copyRows({ whole: images, windows, shifts }, (from, to) => to.set(from));
      const evaluation = await reward.evaluate(windows, prompts, options);
      const gradient = float32(new Float32Array(images.data.length), images.shape);
      copyRows(
        { whole: gradient, windows: evaluation.gradient, shifts },
        (to, from) => to.set(from),
      );
      return { ...evaluation, gradient };
    },
  };
}

/** Calls `copy` with each row of each window in the whole image, and in the window. */
function copyRows(
  { whole, windows, shifts }: {
    readonly whole: Float32Tensor;
    readonly windows: Float32Tensor;
    readonly shifts: readonly Shift[];
  },
  copy: (inWhole: Float32Array, inWindow: Float32Array) => void,
): void {
  const [, channels = 1, height = 1, width = 1] = whole.shape;
  const [, , h = 1, w = 1] = windows.shape;
  for (let i = 0; i < batchOf(whole); i++) {
    const { x, y } = shifts[i] ?? { x: 0, y: 0 };
    for (let c = i * channels; c < (i + 1) * channels; c++) {
      for (let row = 0; row < h; row++) {
        const at = (c * height + y + row) * width + x;
        const to = (c * h + row) * w;
        copy(whole.data.subarray(at, at + w), windows.data.subarray(to, to + w));
      }
    }
  }
}
