import type { z } from "zod";
import { aesthetic } from "./kinds/aesthetic.ts";
import { clip } from "./kinds/clip.ts";
import { hpsv2 } from "./kinds/hpsv2.ts";
import { jpeg } from "./kinds/jpeg.ts";
import { onnx } from "./kinds/onnx.ts";
import { owlvit } from "./kinds/owlvit.ts";
import { pickscore } from "./kinds/pickscore.ts";
import { symmetry } from "./kinds/symmetry.ts";

/** Every kind of reward: the schema of its options and how to open it. A new reward is a row here. */
export const REWARD_KINDS = { aesthetic, clip, hpsv2, jpeg, onnx, owlvit, pickscore, symmetry };

/** The name of a kind. */
export type RewardKindName = keyof typeof REWARD_KINDS;

type Schema = (typeof REWARD_KINDS)[RewardKindName]["schema"];

/** A checked configuration: `kind`, an optional `name` to serve it under, and the options of that kind. */
export type RewardConfig = z.output<Schema>;

/** A configuration as it may be written: options with a default can be left out. */
export type RewardConfigInput = z.input<Schema>;
