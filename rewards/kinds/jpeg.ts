import { z } from "zod";
import { nameField, rewardKind } from "../_reward_kind.ts";
import { jpegCodec } from "./_jpeg_codec.ts";
import { libjpegError } from "./_libjpeg_error.ts";

/**
 * Mean squared error of I and decode(encode(I)) in [0, 1] units (eq. 7 of the paper), to be minimised. Rounding has
 * no derivative, so `mode` says what the gradient is of:
 * - `cubic` (default): the rounding is replaced by round x + (x - round x)³, in score and gradient alike;
 * - `constant-target`: the decoded image is a constant;
 * - `ste`: the derivative of rounding is set to 1. The gradient is then exactly zero with 4:4:4, and with 4:2:0 sees
 *   only what subsampling the chroma loses.
 */
export const jpeg = rewardKind({
  schema: z.strictObject({
    kind: z.literal("jpeg"),
    ...nameField,
    quality: z.int().min(1).max(100).default(50),
    subsampling: z.enum(["4:2:0", "4:4:4"]).default("4:2:0"),
    mode: z.enum(["cubic", "constant-target", "ste"]).default("cubic"),
  }),
  open: ({ quality, subsampling, mode }) => ({
    direction: "minimise",
    range: [0, Infinity],
    identity: () => ({ quality, subsampling, mode }),
    isSurrogate: mode !== "cubic",
    score: (b, x) => {
      const error = b.sub(x, jpegCodec(b, x, { quality, subsampling, mode }));
      return b.mean(b.mul(error, error), { axes: [1, 2, 3], keepDims: false });
    },
    extras: async (images) => ({
      libjpegError: await libjpegError(images, { quality, subsampling }),
    }),
  }),
});
