import {
  type GuidanceGradient,
  GuidanceGradientSchema,
  type RunConfig,
} from "../../../proto/mod.ts";

/** What `prepareRunConfig` reads of a run that is only to be estimated: without its prompts and rewards. */
export function plannedConfig(
  wire: RunConfig,
  { memoryLimit, precision }: {
    /** Instead of the run's own. */
    readonly memoryLimit?: number | undefined;
    readonly precision?: string | undefined;
  } = {},
): Record<string, unknown> {
  const { model, method, sampler, guidance, lora, batch, drift, pretrain } = wire;
  return defined({
    model,
    method: method && defined({
      ...method,
      name: method.name || undefined,
      concentration: method.concentration.length > 0 ? method.concentration : undefined,
    }),
    sampler: sampler && defined({ ...sampler, kind: sampler.kind || undefined }),
    guidance: guidance &&
      defined({ scale: guidance.scale, gradient: gradientName(guidance.gradient) }),
    lora: lora && defined({ ...lora, targets: lora.targets.length > 0 ? lora.targets : undefined }),
    batch: batch && defined(batch),
    // A gate chooses among images by their rewards, and costs nothing.
    drift: drift && defined({ ...drift, kind: drift.kind || undefined, gate: undefined }),
    pretrain: pretrain && defined({ ...pretrain, sha256: pretrain.sha256 || undefined }),
    latentHeight: wire.latentHeight,
    latentWidth: wire.latentWidth,
    memoryLimit: memoryLimit ?? wire.memoryLimit,
    precision: (precision ?? wire.precision) || undefined,
    // Neither changes what is estimated.
    prompts: ["a prompt"],
    rewards: [{ name: "reward", endpoint: "reward:1" }],
  });
}

function gradientName(value: GuidanceGradient): string | undefined {
  if (value === 0) return undefined;
  return GuidanceGradientSchema.value[value]?.localName.toLowerCase() ?? String(value);
}

/** A message's fields that are set, without protobuf's own. */
function defined(message: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(message).filter(([name, v]) => v !== undefined && !name.startsWith("$")),
  );
}
