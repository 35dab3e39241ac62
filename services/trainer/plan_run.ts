import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  PlanRunResponseSchema,
  PromptSource,
  RunConfig as WireConfig,
} from "../../proto/mod.ts";
import {
  FieldError,
  insideRoot,
  MissingFileError,
  type RewardTerm,
  RewardUnavailableError,
  type RunConfig,
  type RunDependencies,
} from "../../trainer/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import { fillInEndpoints } from "./fill_in_endpoints.ts";
import { fromWireConfig, toWireConfig } from "./wire_config.ts";

/** How long a reward is waited for. */
const REWARD_MS = 3_000;
const GIB = 2 ** 30;

/** Answers PlanRun. Throws as StartRun does, but for what is missing on this server. */
export async function planRunRequest(
  config: WireConfig | undefined,
  { dependencies, modelRoot, addresses, signal }: {
    readonly dependencies: RunDependencies;
    readonly modelRoot: string;
    readonly addresses: ReadonlyMap<string, string>;
    readonly signal: AbortSignal;
  },
): Promise<MessageInitShape<typeof PlanRunResponseSchema>> {
  if (config === undefined) throw new FieldError("config", "is missing");
  const files = await missingFiles(config, modelRoot);
  const unnamed = fillInKnown(config, addresses);
  if (files.length > 0) return { missing: [...files, ...unnamed] };
  const prepare = dependencies.prepare;
  if (prepare === undefined) {
    throw new StatusError("UNIMPLEMENTED", "This server does not plan runs");
  }
  let prepared: RunConfig;
  try {
    prepared = await prepare(await fromWireConfig(config, modelRoot));
  } catch (error) {
    if (!(error instanceof MissingFileError)) throw error;
    return { missing: [error.message, ...unnamed] };
  }
  const [plan, away] = await Promise.all([
    dependencies.estimate?.(prepared),
    missingRewards(prepared, { dependencies, signal }),
  ]);
  return {
    missing: [...unnamed, ...away],
    config: toWireConfig(prepared, "beginning"),
    ...(plan && {
      phases: plan.phases.map(({ name, runs, pieces, bytes, seconds }) => ({
        ...{ name, runs, pieces, seconds },
        memory: bytes / GIB,
      })),
      memory: plan.bytes / GIB,
      secondsPerIteration: plan.secondsPerIteration,
      remark: plan.remark ?? "",
    }),
  };
}

/** Sentences about the model and prompt files that are not there. */
async function missingFiles(
  { model, prompts, heldOutPrompts }: WireConfig,
  root: string,
): Promise<string[]> {
  const fileOf = (source: PromptSource | undefined) =>
    source?.source.case === "file" ? source.source.value : undefined;
  const wanted = [
    ["model", model || undefined],
    ["prompts.file", fileOf(prompts)],
    ["heldOutPrompts.file", fileOf(heldOutPrompts)],
  ] as const;
  const found = await Promise.all(wanted.map(async ([field, path]) => {
    if (path === undefined) return [];
    try {
      await insideRoot(root, path, field);
      return [];
    } catch (error) {
      if (!(error instanceof MissingFileError)) throw error;
      return [error.message];
    }
  }));
  return found.flat();
}

/** An address that nothing is asked at: of a reward that is reported as missing, while the others are checked. */
const NOWHERE = "unknown:0";

/** Gives terms their endpoints. Answers sentences about those whose names this server does not know. */
function fillInKnown(config: WireConfig, addresses: ReadonlyMap<string, string>): string[] {
  const missing: string[] = [];
  const all = [["rewards", config.rewards], [
    "panel.rewards",
    config.panel?.rewards ?? [],
  ]] as const;
  for (const [field, terms] of all) {
    for (const [i, term] of terms.entries()) {
      try {
        fillInEndpoints([term], { addresses, field });
      } catch (error) {
        if (!(error instanceof FieldError)) throw error;
        missing.push(error.message.replace(`${field}.0.`, `${field}.${i}.`));
        term.endpoint = NOWHERE;
      }
    }
  }
  return missing;
}

/** Sentences about rewards that do not answer, or are not those wanted. */
async function missingRewards(
  { rewards, panel }: RunConfig,
  { dependencies, signal }: {
    readonly dependencies: RunDependencies;
    readonly signal: AbortSignal;
  },
): Promise<string[]> {
  const terms: RewardTerm[] = [
    ...rewards,
    ...panel.rewards.map((reward) => ({ ...reward, weight: 0 })),
  ];
  const asked = terms.filter(({ endpoint }) => endpoint !== NOWHERE);
  const found = await Promise.all(asked.map(async (term) => {
    const late = AbortSignal.timeout(REWARD_MS);
    try {
      const client = await dependencies.connect(term, AbortSignal.any([late, signal]));
      await client.close();
      return [];
    } catch (error) {
      signal.throwIfAborted();
      if (late.aborted || error instanceof RewardUnavailableError) {
        return [`Reward ${term.name} at ${term.endpoint} does not answer`];
      }
      return [error instanceof Error ? error.message : String(error)];
    }
  }));
  return found.flat();
}
