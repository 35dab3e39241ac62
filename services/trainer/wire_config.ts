import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { decodeLines, InputError } from "../../base/mod.ts";
import {
  GuidanceGradient,
  type PanelReward,
  type PromptSource,
  type RewardTerm as WireTerm,
  type RunConfig as WireConfig,
} from "../../proto/mod.ts";
import { FieldError, insideRoot, type RewardTerm, type RunConfig } from "../../trainer/mod.ts";

const GRADIENTS = {
  both: GuidanceGradient.BOTH,
  conditional: GuidanceGradient.CONDITIONAL,
  none: GuidanceGradient.NONE,
} as const satisfies Record<RunConfig["guidance"]["gradient"], GuidanceGradient>;

const MAX_PROMPT_BYTES = 64 * 2 ** 20;

/** What `parseRunConfig` checks, from a request: absent fields are left to its defaults, prompt files are read. */
export async function fromWireConfig(
  config: WireConfig | undefined,
  modelRoot: string,
): Promise<Record<string, unknown>> {
  if (config === undefined) throw new FieldError("config", "is missing");
  const { method, sampler, guidance, lora, optimizer, batch, drift, perturb, pretrain, panel } =
    config;
  const heldOut = await promptsOf(config.heldOutPrompts, modelRoot, "heldOutPrompts");
  return compact({
    model: config.model,
    method: method && compact({
      ...plain(method),
      name: method.name || undefined,
      concentration: method.concentration.length > 0 ? method.concentration : undefined,
    }),
    sampler: sampler && compact({ ...plain(sampler), kind: sampler.kind || undefined }),
    guidance: guidance &&
      compact({ scale: guidance.scale, gradient: gradientOf(guidance.gradient) }),
    lora: lora &&
      compact({
        ...plain(lora),
        targets: lora.targets.length > 0 ? lora.targets : undefined,
        rankPattern: someOf(lora.rankPattern),
        alphaPattern: someOf(lora.alphaPattern),
      }),
    optimizer: optimizer && plain(optimizer),
    batch: batch && plain(batch),
    prompts: await promptsOf(config.prompts, modelRoot, "prompts") ?? [],
    heldOutPrompts: heldOut,
    rewards: config.rewards.map(fromWireTerm),
    drift: drift && compact({ ...plain(drift), kind: drift.kind || undefined }),
    randomShift: config.randomShift,
    combine: config.combine || undefined,
    stop: config.stop || undefined,
    perturb: perturb && plain(perturb),
    pretrain: pretrain && compact({ ...plain(pretrain), sha256: pretrain.sha256 || undefined }),
    panel: panel && compact({
      ...plain(panel),
      scales: panel.scales.length > 0 ? panel.scales : undefined,
      rewards: panel.rewards.map(fromWirePanelReward),
    }),
    seed: config.seed,
    iterations: config.iterations,
    checkpointEvery: config.checkpointEvery,
    sampleEvery: config.sampleEvery,
    latentHeight: config.latentHeight,
    latentWidth: config.latentWidth,
    memoryLimit: config.memoryLimit,
    precision: config.precision || undefined,
    shard: config.shard && plain(config.shard),
    budget: config.budget && compact({
      seconds: config.budget.seconds,
      of: config.budget.of || undefined,
    }),
  });
}

/** A map's entries; `undefined` where it has none, as it has where it was not given. */
function someOf(map: Readonly<Record<string, number>>): Record<string, number> | undefined {
  return Object.keys(map).length > 0 ? { ...map } : undefined;
}

/** The schema's name; for a number that this version does not know, the number, which the schema refuses. */
function gradientOf(wire: GuidanceGradient): string | undefined {
  if (wire === GuidanceGradient.UNSPECIFIED) return undefined;
  return Object.entries(GRADIENTS).find(([, value]) => value === wire)?.[0] ?? String(wire);
}

/** One term of a mixture; checked by `rewardMixtureSchema`. */
export function fromWireTerm(term: WireTerm): Record<string, unknown> {
  return compact({
    name: term.name || term.reward || undefined,
    endpoint: term.endpoint,
    reward: term.reward,
    weight: term.weight,
    expectedDigest: term.expectedDigest,
    ...readingOf(term),
    hinge: term.hinge,
    zScore: term.zScore,
  });
}

function fromWirePanelReward(reward: PanelReward): Record<string, unknown> {
  return compact({
    ...plain(reward),
    ...readingOf(reward),
    name: reward.name || reward.reward,
  });
}

/** How a reward reads prompts; what is empty was not given. */
function readingOf({ prompt, without }: WireTerm | PanelReward) {
  return { prompt: prompt || undefined, without: without.length > 0 ? without : undefined };
}

/** A term on the wire. */
export function toWireTerm({ without = [], ...term }: RewardTerm) {
  return { ...term, without: [...without] };
}

/** How much of a list of prompts a message holds. A list may be as large as a message may be. */
export type PromptsShown = "none" | "beginning" | "whole";

/** A configuration on the wire, every default filled in. */
export function toWireConfig(config: RunConfig, shown: PromptsShown = "whole") {
  const { guidance, lora, panel, heldOutPrompts, prompts } = config;
  return {
    ...config,
    method: compact({ ...config.method, concentration: [...config.method.concentration ?? []] }),
    sampler: compact(config.sampler),
    guidance: { scale: guidance.scale, gradient: GRADIENTS[guidance.gradient] },
    lora: compact({ ...lora, targets: [...lora.targets] }),
    prompts: toWirePrompts(prompts, shown),
    heldOutPrompts: toWirePrompts(heldOutPrompts, shown),
    rewards: config.rewards.map(toWireTerm),
    panel: {
      ...panel,
      scales: [...panel.scales],
      rewards: panel.rewards.map(({ without = [], ...r }) => ({ ...r, without: [...without] })),
    },
  };
}

/** UTF-16 units of a list that every message may hold. */
const BEGINNING = 2 ** 16;

function toWirePrompts(prompts: readonly string[], shown: PromptsShown) {
  const { sha256, beginning } = factsOf(prompts);
  const parts = { none: [], beginning, whole: prompts };
  const value = { prompts: [...parts[shown]] };
  return { source: { case: "list" as const, value }, sha256, count: prompts.length };
}

interface PromptFacts {
  readonly sha256: string;
  readonly beginning: readonly string[];
}

const facts = new WeakMap<readonly string[], PromptFacts>();

/** Of a frozen configuration's list, found once. */
function factsOf(prompts: readonly string[]): PromptFacts {
  const known = facts.get(prompts);
  if (known !== undefined) return known;
  const hash = createHash("sha256");
  let [length, shown] = [0, 0];
  for (const prompt of prompts) {
    hash.update(`${prompt}\n`);
    length += prompt.length;
    if (length <= BEGINNING) shown++;
  }
  const found = { sha256: hash.digest("hex"), beginning: prompts.slice(0, shown) };
  facts.set(prompts, found);
  return found;
}

/** Prompts given in a request or in a file below the model root; `undefined` where there are none. */
export async function promptsOf(
  source: PromptSource | undefined,
  modelRoot: string,
  field: string,
): Promise<readonly string[] | undefined> {
  const given = source?.source;
  if (given === undefined || given.case === undefined) return undefined;
  if (given.case === "list") return given.value.prompts;
  const path = await insideRoot(modelRoot, given.value, `${field}.file`);
  const { size, isFile } = await Deno.stat(path);
  if (!isFile) throw new FieldError(`${field}.file`, `is ${given.value}, expected a text file`);
  if (size > MAX_PROMPT_BYTES) {
    throw new FieldError(
      `${field}.file`,
      `has ${size} bytes, expected at most ${MAX_PROMPT_BYTES}`,
    );
  }
  const prompts = linesOf(await readFile(path), `${field}.file`);
  if (prompts.length === 0) {
    throw new FieldError(`${field}.file`, `is ${given.value}, which holds no prompt`);
  }
  return prompts;
}

function linesOf(bytes: Uint8Array, field: string): string[] {
  try {
    return decodeLines(bytes, "the file");
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw new FieldError(field, `cannot be read: ${cause.message}`, { cause });
  }
}

/** Without the fields that are undefined: absent is what the schema's defaults need. */
export function compact<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(fields)) if (v !== undefined) out[k] = v;
  return Object.assign(Object.create(null), out);
}

/** A message's fields without protobuf's own. */
export function plain(message: object): Record<string, unknown> {
  return compact(Object.fromEntries(Object.entries(message).filter(([k]) => !k.startsWith("$"))));
}
