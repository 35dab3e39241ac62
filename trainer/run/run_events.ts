import { z } from "zod";
import { rewardTermSchema } from "./run_config.ts";

const step = z.int().min(0);
const at = z.iso.datetime();

const stateSchema = z.enum([
  "queued",
  "running",
  "paused",
  "stopping",
  "stopped",
  "finished",
  "failed",
]);

const metricsSchema = z.strictObject({
  mean: z.number(),
  perImage: z.array(z.number()),
  digest: z.string(),
});

const sampleSchema = z.strictObject({
  prompt: z.string(),
  seed: z.number(),
  /** PNG, relative to the run's folder. */
  path: z.string(),
  /** Empty where a reward was away. */
  rewards: z.record(z.string(), z.number()),
});

const selectionSchema = z.strictObject({
  trainSteps: z.array(step).readonly(),
  tMin: step,
  inputStopGradient: z.boolean(),
  redraws: step,
});

/** One iteration. Step 0 is the untrained model: it has samples only. */
const stepEventSchema = z.strictObject({
  type: z.literal("step"),
  /** Iterations done. */
  step,
  /** The mean over the images of what training minimises. */
  loss: z.number(),
  /** L2 norm of the whole gradient before clipping. */
  gradNorm: z.number(),
  /** What the penalty on drift measures, without its weight; with such a penalty only. */
  drift: z.number().optional(),
  /** By the reward's name in the mixture. */
  rewards: z.record(z.string(), metricsSchema),
  /** By phase, and "total". */
  seconds: z.record(z.string(), z.number()),
  /** CPU seconds (user and system) of this process and the model's; absent where they are not measured. */
  cpuSeconds: z.number().exactOptional(),
  secondsLeft: z.number(),
  samples: z.array(sampleSchema),
  /** Of its images, in the order of `perImage`. */
  prompts: z.array(z.string()),
  /** Small JPEG files of its images in that order, relative to the run's folder; where samples were drawn as well. */
  images: z.array(z.string()).exactOptional(),
  /** What was trained, a selection of steps for each accumulated batch. */
  plans: z.array(selectionSchema),
  /** Names of the workers that computed its shards, in their order; absent where the trainer did. */
  workers: z.array(z.string()).exactOptional(),
  at,
});

/** A change of state. */
const stateEventSchema = z.strictObject({
  type: z.literal("state"),
  state: stateSchema,
  reason: z.string(),
  step,
  /** Iterations to do, as of now. */
  iterations: step,
  at,
});

/** A change of the mixture, in effect from the iteration after `step`. */
const swapEventSchema = z.strictObject({
  type: z.literal("swap"),
  step,
  rewards: z.array(rewardTermSchema).readonly(),
  at,
});

/** A checkpoint was asked for after this step. */
const saveEventSchema = z.strictObject({ type: z.literal("save"), step, at });

/** A checkpoint that is whole on disk. */
const checkpointEventSchema = z.strictObject({ type: z.literal("checkpoint"), step, at });

/** A measurement of the panel. */
const panelEventSchema = z.strictObject({
  type: z.literal("panel"),
  step,
  /** By name, of the mixture and of the panel. */
  rewards: z.record(z.string(), metricsSchema),
  /** Names of those that are not trained on. */
  heldOut: z.array(z.string()),
  /** Mean distance of two images. */
  diversity: z.number(),
  /** Why this is a sign of reward hacking; empty where it is none. */
  alarm: z.string(),
  /** That a held-out reward has become worse since some measurement; see `Evidence.value`. With `stop: auto` only. */
  evidence: z.number().exactOptional(),
  /** Why this ends the run; absent where it goes on. */
  ends: z.string().exactOptional(),
  at,
});

/** What a run that has ended chose of its LoRAs, by its panel. */
const choiceEventSchema = z.strictObject({
  type: z.literal("choice"),
  /** At which it ended. */
  step,
  /** The checkpoint that was chosen. */
  chosen: step,
  /** Factor on its LoRA. */
  loraScale: z.number(),
  /** Among which, best first; see `choose`. */
  candidates: z.array(z.strictObject({
    step,
    loraScale: z.number(),
    /** Mean of what is trained, greater is better. */
    trained: z.number(),
    /** Means of the held-out rewards, in their own units. */
    heldOut: z.record(z.string(), z.number()),
    /** Names of held-out rewards that are worse than at their best. */
    objections: z.array(z.string()),
  })),
  at,
});

/** A checkpoint that was found damaged and moved aside. */
const damageEventSchema = z.strictObject({
  type: z.literal("damage"),
  /** Iterations it held. */
  step,
  /** Which file, what was found and what was expected. */
  reason: z.string(),
  /** Where it lies now, relative to the run's folder. */
  movedTo: z.string(),
  at,
});

/** A reward that answered with other weights than before, in the iteration after `step`. */
const digestEventSchema = z.strictObject({
  type: z.literal("digest"),
  step,
  /** Its name in the mixture. */
  reward: z.string(),
  before: z.string(),
  after: z.string(),
  at,
});

/** A line of `events.jsonl`. */
export const runEventSchema = z.discriminatedUnion("type", [
  stepEventSchema,
  stateEventSchema,
  swapEventSchema,
  saveEventSchema,
  checkpointEventSchema,
  panelEventSchema,
  damageEventSchema,
  digestEventSchema,
  choiceEventSchema,
]);

/** What a run is doing. */
export type RunState = z.output<typeof stateSchema>;
/** One reward at one step, in its own units. */
export type RewardMetrics = z.output<typeof metricsSchema>;
/** A sample picture in the run's folder. */
export type SampleReference = z.output<typeof sampleSchema>;
export type StepEvent = z.output<typeof stepEventSchema>;
export type StateEvent = z.output<typeof stateEventSchema>;
export type SwapEvent = z.output<typeof swapEventSchema>;
export type SaveEvent = z.output<typeof saveEventSchema>;
export type CheckpointEvent = z.output<typeof checkpointEventSchema>;
export type PanelEvent = z.output<typeof panelEventSchema>;
export type DamageEvent = z.output<typeof damageEventSchema>;
export type DigestEvent = z.output<typeof digestEventSchema>;
export type ChoiceEvent = z.output<typeof choiceEventSchema>;
export type RunEvent = z.output<typeof runEventSchema>;
