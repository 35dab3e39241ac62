import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { float32, sizeOf } from "../autodiff/mod.ts";
import { type Engine, openEngine, type Provider, type SessionOptions } from "../runtime/mod.ts";
import { GraphReward } from "./_graph_reward.ts";
import type { RewardDefinition } from "./_reward_definition.ts";
import { SelfCheckError } from "./errors.ts";
import { selfCheck } from "./_self_check.ts";
import { RewardSessions } from "./_reward_sessions.ts";
import { describeRecipe, extentOf } from "./preprocess/mod.ts";
import { parseRewardConfig } from "./parse_reward_config.ts";
import { REWARD_KINDS, type RewardConfigInput } from "./registry.ts";
import type { Reward, RewardInfo, SelfCheck } from "./reward.ts";

/** How a reward is loaded. */
export interface LoadRewardOptions {
  /** Holds the sessions, and stays open. Default: one in this process, closed by `Reward.dispose`. */
  readonly engine?: Engine;
  /** Default "cpu". */
  readonly provider?: Provider | undefined;
  /** Threads of one operator. Default: all cores. */
  readonly threads?: number;
  /** Other options of every session. */
  readonly session?: Omit<SessionOptions, "provider" | "intraOpNumThreads">;
  /**
   * Bytes of the device, by which graphs are written: what takes less than a thirty-second of a GPU's memory is computed
   * whole there. Default: no bound on provider "cpu", 8 GiB on others.
   */
  readonly memory?: number | undefined;
  /** Folder that relative paths of the configuration are in. Default: the current one. */
  readonly baseDir?: string;
  /** Folder in which PyTorch files are kept converted. Default: `.cache/weights` in the current one. */
  readonly cacheDir?: string;
  /** Most images in one run. Default 16. */
  readonly maxBatch?: number;
  /**
   * Bytes that sessions may hold beside shared weights, above which the longest unused are freed. A session of the model,
   * one for each number of images, holds the memory of a run. Default 8 GiB.
   */
  readonly maxSessionBytes?: number;
  /**
   * Copy matrices into the layout that products like best, in the first session of the model that is used a third time
   * after loading, or in the largest that is warmed up. Runs take 5 to 10 % less, that one a few seconds more, and memory
   * grows by at most 0.3 times the weights and 0.5 GB. On provider "cpu". Default true.
   */
  readonly packWeights?: boolean;
  /** Check the gradient on load; see `SelfCheck`. Default true. */
  readonly selfCheck?: boolean;
  /** Images whose sessions are made on load, so that their first request is as quick as the next. Default: none. */
  readonly warmUp?: readonly ImageBucket[];
}

/** Images of one size. A batch is run in powers of two up to `maxBatch`, so those below it are made too. */
export interface ImageBucket {
  readonly height: number;
  readonly width: number;
  /** Default 1. */
  readonly batch?: number;
}

const GIB = 2 ** 30;

/** What a GPU of which nothing is known has at least, for what rewards need. */
const GPU_MEMORY = 8 * GIB;

/** Uses of a session before it is packed, and those that the check on load usually makes beside them. */
const [PACK_AFTER, CHECK_USES] = [2, 2];

/**
 * Loads a reward: opens its weights and, unless told not to, runs it once to check its gradient.
 * Throws `WeightsError`, `ConfigError`, `TokenizerError` or `RewardConfigError` naming the file or field at fault,
 * `SelfCheckError` where the gradient is wrong, and `RuntimeError` where the provider is not available.
 *
 * @example Score and gradient of one image
 * ```ts
 * import { float32 } from "../autodiff/mod.ts";
 *
 * const reward = await loadReward({ kind: "symmetry" });
 * const pixels = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => i % 32 / 31);
 * const image = float32(pixels, [1, 3, 32, 32]);
 * const { scores, gradient } = await reward.score(image, [""], { gradient: true });
 * if (gradient?.shape.join() !== "1,3,32,32") throw new Error("Not of the image's shape");
 * // Brighter from left to right: not symmetric, and this reward is better where it is smaller.
 * if (reward.info.direction !== "minimise" || !((scores[0] ?? 0) > 0)) throw new Error("Symmetric");
 * await reward.dispose();
 * ```
 */
export async function loadReward(
  config: RewardConfigInput,
  options: LoadRewardOptions = {},
): Promise<Reward> {
  const { provider = "cpu", threads, baseDir = ".", cacheDir = ".cache/weights" } = options;
  const { kind, name = kind } = parseRewardConfig(config);
  const definition = await REWARD_KINDS[kind].open(config, {
    resolve: (path) => resolve(baseDir, path),
    cacheDir: resolve(cacheDir),
  });
  const digest = await digestOf(kind, definition);
  const isWarmed = (options.warmUp ?? []).length > 0;
  const engine = options.engine ?? await openEngine({ isolation: "in-process" });
  const sessions = new RewardSessions(engine, {
    compile: {
      provider,
      memory: options.memory ?? (provider === "cpu" ? Infinity : GPU_MEMORY),
      precision: "float32",
      threads,
      optimizer: definition.isForeign ? "runtime" : "compiler",
    },
    session: {
      // Mapped weights are shared by all sessions, and there at once; see `packWeights`.
      prepackWeights: false,
      // Our graphs are written as they run best.
      graphOptimizationLevel: definition.isForeign ? "all" : "disabled",
      ...options.session,
    },
    weightsRoot: definition.weightsRoot,
    ...(provider === "cpu" && options.packWeights !== false && {
      packAfter: isWarmed ? 0 : PACK_AFTER + (options.selfCheck === false ? 0 : CHECK_USES),
    }),
    maxBytes: options.maxSessionBytes ?? 8 * GIB,
  });
  const { recipe, text, direction, range, isSurrogate = false } = definition;
  const info: RewardInfo = {
    name,
    kind,
    direction,
    range,
    readsPrompt: text !== undefined && text.query === undefined,
    ...(text !== undefined && text.query === undefined && { promptTokens: text.tokens }),
    preprocessing: [
      recipe === undefined ? "none" : describeRecipe(recipe),
      ...(text?.query !== undefined && text.cuts(text.query)
        ? [`query cut to ${text.tokens} tokens`]
        : []),
    ].join(", "),
    fileProcessing: recipe?.files ?? "reference",
    digest,
    provider,
    ...((definition.warnings ?? []).length > 0 && { warnings: definition.warnings }),
  };
  const runsOn = {
    sessions,
    maxBatch: Math.min(options.maxBatch ?? 16, definition.maxBatch ?? Infinity),
    onDispose: async () => {
      if (options.engine === undefined) await engine.close();
    },
  };
  const reward = new GraphReward(info, definition, runsOn);
  try {
    for (const bucket of options.warmUp ?? []) await warmUp(reward, bucket);
    if (options.selfCheck === false) return reward;
    const { found, warning } = await checked(definition, () =>
      selfCheck(reward, {
        isSurrogate,
        computesInHalf: definition.computesInHalf,
        ...(recipe && { extent: extentOf(recipe.size) }),
      }));
    const said = {
      ...info,
      ...(found && { selfCheck: found }),
      ...(warning !== undefined && { warnings: [...info.warnings ?? [], warning] }),
    };
    return new GraphReward(said, definition, runsOn);
  } catch (error) {
    await reward.dispose();
    throw error;
  }
}

/** What the check on load found, and what is to be said of it; where the definition asks for no more, that it failed too. */
async function checked(
  { check }: RewardDefinition,
  run: () => Promise<SelfCheck>,
): Promise<{ readonly found?: SelfCheck; readonly warning?: string }> {
  try {
    const found = await run();
    if (!found.isHidden) return { found };
    const warning =
      "The gradient could not be checked: the score changes by less than it is rounded by";
    return { found, warning };
  } catch (error) {
    if (check !== "warn" || !(error instanceof SelfCheckError)) throw error;
    return { warning: error.message };
  }
}

/** Runs every number of images that a request of the bucket may be cut into, the largest first. */
async function warmUp(reward: Reward, { height, width, batch = 1 }: ImageBucket): Promise<void> {
  for (let count = 2 ** Math.floor(Math.log2(batch)); count >= 1; count /= 2) {
    const shape = [count, 3, height, width];
    const images = float32(new Float32Array(sizeOf(shape)).fill(0.5), shape);
    const prompts = Array<string>(count).fill("warm up");
    await reward.score(images, prompts, { gradient: true });
  }
}

/** sha256 over the kind and all that its scores depend on. */
async function digestOf(kind: string, definition: RewardDefinition): Promise<string> {
  const identity = JSON.stringify([kind, await definition.identity()]);
  return createHash("sha256").update(identity).digest("hex");
}
