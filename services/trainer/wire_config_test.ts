import assert from "node:assert/strict";
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { z } from "zod";
import { RunConfigSchema } from "../../proto/mod.ts";
import { parseRunConfig, runConfigSchema } from "../../trainer/mod.ts";
import { fromWireConfig, toWireConfig } from "./wire_config.ts";

const ROOT = new URL("../../zoo", import.meta.url).pathname;

/** Every field of a message, "lora.rank", with `PromptSource` as one field. */
function wireFields(message: DescMessage, prefix = ""): string[] {
  return message.fields.flatMap((field) => {
    const name = `${prefix}${field.jsonName}`;
    return field.message === undefined || field.message.name === "PromptSource"
      ? [name]
      : wireFields(field.message, `${name}.`);
  });
}

const node = z.looseObject({
  get properties() {
    return z.record(z.string(), node).optional();
  },
  get items() {
    return node.optional();
  },
});

/** Every field of a JSON Schema, lists of objects as their objects. */
function schemaFields(schema: z.output<typeof node>, prefix = ""): string[] {
  const { properties } = schema.items ?? schema;
  if (properties === undefined) return [prefix.slice(0, -1)];
  return Object.entries(properties).flatMap(([name, field]) =>
    schemaFields(field, `${prefix}${name}.`)
  );
}

/** Every field of a value, by the same names. */
function fieldsOf(value: unknown, prefix = ""): string[] {
  const one: unknown = Array.isArray(value) ? value[0] : value;
  if (prefix.endsWith("Pattern.")) return [prefix.slice(0, -1)];
  if (typeof one !== "object" || one === null) return [prefix.slice(0, -1)];
  return Object.entries(one).flatMap(([name, field]) => fieldsOf(field, `${prefix}${name}.`));
}

/** No field is at its default. */
const EVERY = {
  model: "pipeline",
  method: { name: "draft-k", k: 3, m: 4, inputStopGradient: true, earlyStop: true },
  sampler: { kind: "ddim", steps: 12, eta: 0.5, karrasSigmas: true },
  guidance: { scale: 3, gradient: "none" },
  lora: {
    rank: 3,
    alpha: 5,
    targets: ["to_q"],
    init: "a.safetensors",
    sampleScale: 0.7,
    ema: 0.5,
    rankPattern: { "attn1.to_q": 2 },
    alphaPattern: { "attn2.to_q": 4 },
  },
  optimizer: {
    learningRate: 1e-3,
    beta1: 0.5,
    beta2: 0.6,
    epsilon: 1e-4,
    weightDecay: 0.1,
    maxGradNorm: 2,
    warmup: 7,
  },
  batch: { size: 2, accumulation: 3 },
  prompts: ["a fox"],
  heldOutPrompts: ["a dog", "an owl", "a cat", "a cow"],
  rewards: [{
    name: "c",
    endpoint: "h:1",
    reward: "clip",
    weight: -2,
    expectedDigest: "ab",
    prompt: "a photo of {prompt}",
    without: ["a"],
    hinge: 0,
    zScore: true,
  }, { name: "judge", endpoint: "h:1", weight: 0 }],
  combine: "min",
  perturb: { copies: 3, noise: 0.25 },
  pretrain: { folder: "pictures", weight: 2, sha256: "ef" },
  drift: { kind: "kl", weight: 2, resetEvery: 3, gate: 0.5 },
  randomShift: 5,
  panel: {
    every: 3,
    rewards: [{
      name: "p",
      endpoint: "h:2",
      reward: "pick",
      expectedDigest: "cd",
      prompt: "{prompt}",
      without: ["n owl"],
    }],
    imagesPerPrompt: 4,
    minDiversity: 0.5,
    stop: true,
    scales: [0.25, 0.5],
    falseAlarmRate: 0.1,
  },
  stop: "auto",
  seed: 4,
  iterations: 5,
  checkpointEvery: 6,
  sampleEvery: 7,
  latentHeight: 8,
  latentWidth: 9,
  memoryLimit: 6,
  precision: "float16",
  shard: { images: 2 },
  budget: { seconds: 12.5, of: "gpu" },
} satisfies z.input<typeof runConfigSchema>;

/** The same with the fields that only other methods and samplers have, none of them at its default. */
const OTHERS = [
  { ...EVERY, method: { name: "drtune", k: 2, stepRule: "prefix" } },
  { ...EVERY, method: { name: "flowbp-sparse", k: 3, bias: 2, rescale: 0.25, window: 0.5 } },
  {
    ...EVERY,
    sampler: { kind: "flow-euler", steps: 12, sigmas: "linspace" },
    drift: { kind: "l2", weight: 2 },
    method: {
      name: "flowbp-lagrange",
      rescale: 0.5,
      alpha: 0.2,
      tau: 0.3,
      order: 2,
      weights: "uniform",
      supports: "start",
      supportScale: 0.5,
      anchor: 0.5,
      concentration: [1, 2, 3],
      longestEnd: 4,
      window: 0.75,
    },
  },
] satisfies readonly z.input<typeof runConfigSchema>[];

Deno.test("every field of a configuration can be set by RPC, and the other way round", () => {
  const schema = node.parse(z.toJSONSchema(runConfigSchema, { io: "input" }));
  const fields = schemaFields(schema).sort();
  assert.deepEqual(wireFields(RunConfigSchema).sort(), fields);
  const tried = new Set([EVERY, ...OTHERS].flatMap((config) => fieldsOf(config)));
  assert.deepEqual([...tried].sort(), fields, "the next test forgets a field");
});

Deno.test("a configuration is the same after a journey over the wire", async () => {
  for (const given of [EVERY, ...OTHERS]) {
    const config = parseRunConfig(given);
    const wire: MessageInitShape<typeof RunConfigSchema> = toWireConfig(config);
    const back = parseRunConfig(await fromWireConfig(create(RunConfigSchema, wire), ROOT));
    assert.deepEqual(back, config);
  }
  const config = parseRunConfig(EVERY);
  for (const gradient of ["both", "conditional", "none"] as const) {
    const wire = toWireConfig({ ...config, guidance: { scale: 2, gradient } });
    const { guidance } = await fromWireConfig(create(RunConfigSchema, wire), ROOT);
    assert.deepEqual({ ...Object(guidance) }, { scale: 2, gradient });
  }
});

Deno.test("what is left out takes its default, and prompts may come from a file", async () => {
  const wire = create(RunConfigSchema, {
    model: "pipeline",
    prompts: { source: { case: "file", value: "prompts/books.txt" } },
    rewards: [{ reward: "clip", endpoint: "h:1" }],
  });
  const config = parseRunConfig(await fromWireConfig(wire, ROOT));
  const { prompts } = config;
  assert.ok(prompts.length > 8 && prompts.every((p) => p.includes("books")));
  assert.deepEqual(
    config,
    parseRunConfig({
      model: "pipeline",
      prompts,
      rewards: [{ name: "clip", reward: "clip", endpoint: "h:1" }],
    }),
  );
});
