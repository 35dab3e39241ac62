import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import type { Provider } from "../../../runtime/mod.ts";
import type { ChosenModel } from "./chosen_model.ts";
import { REWARD_RECIPES } from "./reward_recipes.ts";

/** What a new project is made of. */
export interface Project {
  readonly name: string;
  readonly model: ChosenModel;
  /** Kinds of rewards, in `REWARD_RECIPES`. */
  readonly rewards: readonly string[];
  readonly provider: Provider;
  readonly iterations: number;
  readonly prompts: readonly string[];
  readonly heldOut: readonly string[];
}

const SCHEMA = fileURLToPath(new URL("../../../deploy/stack.schema.json", import.meta.url));
/** Port of the first reward; the others follow. */
const FIRST_PORT = 50051;

/** The text of each file of a new project, by its name. */
export function projectFiles(project: Project): ReadonlyMap<string, string> {
  return new Map([
    ["stack.yaml", stackText(project)],
    ["run.yaml", runText(project)],
    ["prompts.txt", lines(project.prompts)],
    ["held_out.txt", lines(project.heldOut)],
  ]);
}

function stackText({ name, model, rewards, provider }: Project): string {
  const resources = provider === "cpu" ? {} : { provider };
  const stack = {
    name,
    models: model.root,
    rewards: rewards.map((kind, i) => ({
      name: kind,
      port: FIRST_PORT + i,
      records: [REWARD_RECIPES[kind]?.record ?? { kind }],
      ...resources,
    })),
    trainer: { port: 50060, ...resources },
    gateway: { port: 8080 },
  };
  return [
    `# yaml-language-server: $schema=${SCHEMA}`,
    "# The services of this project: `drtune up` in this folder starts them. Paths of records are in `models`.",
    stringify(stack),
  ].join("\n");
}

function runText({ model: chosen, rewards, provider, iterations }: Project): string {
  const { model, defaults, allowsHalf } = chosen;
  const { steps, k, m, latents } = defaults;
  const isGpu = provider !== "cpu";
  const run = {
    model,
    method: { name: "drtune", k, m },
    sampler: { steps },
    lora: { rank: 32 },
    optimizer: { learningRate: 1e-4, maxGradNorm: 0.1 },
    batch: isGpu ? { size: 4, accumulation: 4 } : { size: 1, accumulation: 4 },
    iterations,
    checkpointEvery: 25,
    sampleEvery: 25,
    seed: 0,
    ...(latents !== undefined && { latentHeight: latents, latentWidth: latents }),
    ...(isGpu && allowsHalf && { precision: "float16" }),
    prompts: { file: "prompts.txt" },
    heldOutPrompts: { file: "held_out.txt" },
    rewards: rewards.map((kind) => ({ name: kind, weight: 1 })),
  };
  return [
    "# A first run; docs/training.md says what each field does. `drtune plan --config run.yaml` estimates memory and time.",
    "# Prompts are read from the files beside this one, one a line.",
    stringify(run),
  ].join("\n");
}

const lines = (texts: readonly string[]) => `${texts.join("\n")}\n`;
