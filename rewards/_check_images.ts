import { sizeOf } from "../autodiff/mod.ts";
import { RewardInputError } from "./errors.ts";
import type { Images } from "./reward.ts";

/** Longest side of an image, in pixels. */
export const MAX_SIDE = 16_384;

/** Most pixels of one image. */
export const MAX_PIXELS = 2 ** 26;

/** Longest prompt, in UTF-16 code units; no text tower reads more than a few hundred. */
export const MAX_PROMPT_LENGTH = 10_000;

/** Throws `RewardInputError` unless `images` are what `Reward.score` takes. */
export function checkImages({ dtype, shape, data }: Images): void {
  const fail = (message: string): never => {
    throw new RewardInputError(message);
  };
  if (dtype !== "float32") fail(`Images have dtype ${dtype}, expected float32`);
  const [batch = 0, channels, height = 0, width = 0] = shape;
  const isImages = shape.length === 4 && channels === 3 &&
    [batch, height, width].every((d) => Number.isSafeInteger(d) && d > 0);
  if (!isImages) {
    fail(`Images have shape [${shape.join(", ")}], expected [batch, 3, height, width]`);
  }
  if (Math.max(height, width) > MAX_SIDE || height * width > MAX_PIXELS) {
    fail(
      `Images are ${height}x${width}, expected sides of at most ${MAX_SIDE} and at most ` +
        `${MAX_PIXELS} pixels`,
    );
  }
  if (data.length !== sizeOf(shape)) {
    fail(
      `Images have ${data.length} values, their shape [${shape.join(", ")}] needs ${sizeOf(shape)}`,
    );
  }
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  const [column, row] = [at % width, Math.floor(at / width) % height];
  const channel = Math.floor(at / (width * height)) % 3;
  const image = Math.floor(at / (width * height * 3));
  fail(
    `Images hold ${data[at]} at [${image}, ${channel}, ${row}, ${column}], expected finite values`,
  );
}

/** Throws `RewardInputError` unless there is one prompt, neither empty nor overlong, for each image. */
export function checkPrompts(prompts: readonly string[], batch: number): void {
  if (prompts.length !== batch) {
    throw new RewardInputError(
      `Prompts are ${prompts.length}, expected one for each of ${batch} images`,
    );
  }
  for (const [i, prompt] of prompts.entries()) {
    if (prompt.trim() === "") throw new RewardInputError(`Prompt ${i} is empty`);
    if (prompt.length > MAX_PROMPT_LENGTH) {
      throw new RewardInputError(
        `Prompt ${i} has ${prompt.length} characters, expected at most ${MAX_PROMPT_LENGTH}`,
      );
    }
  }
}
