import { z } from "zod";
import { nameField } from "../_reward_kind.ts";
import { FITS } from "../preprocess/mod.ts";

const name = () => z.string().min(1);
const side = z.int().min(1).max(8192);
const perChannel = (value: z.ZodNumber) =>
  z.union([value, z.tuple([value, value, value])], "a number, or one for red, green and blue each");

/** Options of the kind onnx. */
export const schema = z.strictObject({
  kind: z.literal("onnx"),
  ...nameField,
  /** The `.onnx` file, opset 7 or newer. Tensors it keeps in other files must lie in its folder. */
  weights: z.string().min(1),
  /** The input that takes the image. Default: the only one. */
  input: name().optional(),
  /** The output that is the score: one number an image. Default: the only one. */
  output: name().optional(),
  /** Which number of each image, where the output has several ([B, N]). */
  index: z.int().min(0).optional(),
  direction: z.enum(["maximise", "minimise"]).default("maximise"),
  /** Lowest and highest score. Default: unbounded. */
  range: z.tuple([z.number(), z.number()]).optional(),
  /** Side of the square that the model reads, or [height, width]. Default: what the model declares, else the image as it is. */
  size: z.union([side, z.tuple([side, side])], "pixels, or [height, width]").optional(),
  /** How an image becomes of that size. */
  fit: z.enum(FITS).optional(),
  resample: z.enum(["bicubic", "bilinear"]).default("bicubic"),
  /** What black and white are to the model, before `mean` and `std`. Default: 0 and 1, or 255 where it takes whole numbers. */
  pixels: z.tuple([z.number(), z.number()]).optional(),
  /** Subtracted, then divided by: in units of `pixels`. */
  mean: perChannel(z.number()).default(0),
  std: perChannel(z.number().positive()).default(1),
  /** Order of the channels, or what the only one is: grey (L) or one of the three. Default: RGB, or L. */
  channels: z.enum(["RGB", "BGR", "L", "R", "G", "B"]).optional(),
  layout: z.enum(["NCHW", "NHWC"]).default("NCHW"),
  /** What follows where the check on load finds another derivative than the gradient. */
  check: z.enum(["refuse", "warn"]).default("refuse"),
  /** For models that read the prompt: the inputs that take a CLIP tokenizer's ids and mask. */
  text: z.strictObject({
    input: name(),
    mask: name().optional(),
    /** Folder of the tokenizer. Default: that of the model. */
    tokenizer: z.string().min(1).optional(),
    /** Ids of a text. Default: what the model declares, else 77. */
    length: z.int().min(2).max(4096).optional(),
    /** Whose tokenizer: "hf" (transformers) or "open_clip". */
    tokens: z.enum(["hf", "open_clip"]).default("hf"),
  }).optional(),
});

/** The configuration as it is given. */
export type Given = z.output<typeof schema>;

/** The configuration with what its defaults are for this model. */
export type Config = Given & {
  readonly pixels: NonNullable<Given["pixels"]>;
  readonly channels: NonNullable<Given["channels"]>;
};
