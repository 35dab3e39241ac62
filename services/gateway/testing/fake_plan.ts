import { clone, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type DescribeTrainerResponseSchema,
  type PlanRunResponseSchema,
  type RunConfig,
  RunConfigSchema,
} from "../../../proto/mod.ts";
import { StatusError } from "../../rpc/mod.ts";

/** What a trainer that computes nothing says a configuration may name. */
export const FAKE_TRAINER = {
  models: [
    {
      path: "pipeline",
      pipeline: "StableDiffusionPipeline",
      samplers: ["ddpm", "ddim", "dpmsolver++"],
      fault: "",
    },
    {
      path: "flow_pipeline",
      pipeline: "FluxPipeline",
      samplers: ["flow-euler", "dpmsolver++"],
      fault: "",
    },
    { path: "broken", pipeline: "", samplers: [], fault: "unet/config.json is missing" },
  ],
  promptFiles: ["prompts/books.txt", "prompts/concepts.txt"],
  methods: [
    { name: "drtune", parameters: ["k", "inputStopGradient", "earlyStop", "m", "stepRule"] },
    { name: "refl", parameters: ["inputStopGradient", "earlyStop", "m"] },
    { name: "leapalign", parameters: ["alpha", "tau", "window"] },
  ],
  rewards: ["symmetry", "clip"],
} satisfies MessageInitShape<typeof DescribeTrainerResponseSchema>;

/** A plan by a closed form: half a second for each image, a quarter of a GiB, too. */
export function fakePlan(
  config: RunConfig | undefined,
): MessageInitShape<typeof PlanRunResponseSchema> {
  if (config === undefined) throw new StatusError("INVALID_ARGUMENT", "Field config is missing");
  const { model, lora, batch } = config;
  if ((lora?.rank ?? 16) < 1) {
    const message = `Field lora.rank is ${lora?.rank}, expected 1 or more`;
    throw new StatusError("INVALID_ARGUMENT", message);
  }
  if (!FAKE_TRAINER.models.some(({ path }) => path === model)) {
    const missing = `Field model is ${JSON.stringify(model)}, which the model root does not have`;
    return { missing: [missing] };
  }
  const images = (batch?.size ?? 1) * (batch?.accumulation ?? 1);
  const whole = clone(RunConfigSchema, config);
  whole.iterations ??= 100;
  return {
    missing: [],
    config: whole,
    phases: [
      { name: "sampling", runs: 10, pieces: 1, memory: 0.25 * images, seconds: 0.4 * images },
      { name: "U-Net gradient", runs: 2, pieces: 1, memory: 0.2 * images, seconds: 0.1 * images },
    ],
    memory: 0.25 * images,
    secondsPerIteration: 0.5 * images,
  };
}
