import { resolve } from "node:path";
import { z } from "zod";
import { RewardService } from "../../proto/mod.ts";
import { PROVIDERS } from "../../runtime/mod.ts";
import { createLogger, type Logger } from "../../base/mod.ts";
import { readServerTls, readToken } from "../launch/mod.ts";
import { type GrpcServer, startGrpcServer } from "../rpc/mod.ts";
import { type MetricsServer, RpcMetrics, serveMetrics } from "../rpc/metrics/mod.ts";
import { DEFAULT_BATCHING, type ScoredJob } from "./batcher.ts";
import { inferenceService } from "./inference_service.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { rewardAdmin } from "./reward_admin.ts";
import { LocalRewardHost } from "./reward_host.ts";
import { RewardMetrics } from "./reward_metrics.ts";
import { RewardProcess } from "./reward_process.ts";
import { rewardService } from "./reward_service.ts";
import { SupervisedReward } from "./supervised_reward.ts";

/** Three channels in float32. */
const PIXEL_BYTES = 12;

const count = z.int().positive();
const port = z.int().min(0).max(65535);

/** A reward server's configuration. Relative paths are in the folder of the file it came from. */
export const rewardServerSchema = z.strictObject({
  /** Address to listen on. */
  host: z.string().default("127.0.0.1"),
  /** 0 takes a free port. */
  port: port.default(50051),
  /** The rewards' records; what they hold beside kind and name is up to the kind. The name defaults to the kind. */
  rewards: z.array(z.looseObject({ kind: z.string().min(1), name: z.string().min(1).optional() }))
    .min(1),
  /** Reward of requests that name none. Default: the only one. */
  default: z.string().optional(),
  /** ONNX Runtime execution provider of all rewards. */
  provider: z.enum(PROVIDERS).optional(),
  /** Threads of each reward. Default: all cores. */
  threads: count.optional(),
  /** Folder in which PyTorch files are kept converted. */
  cacheDir: z.string().default(".cache/weights"),
  /** What one request may hold. */
  limits: z.strictObject({
    maxImages: count.default(DEFAULT_LIMITS.maxImages),
    maxPixels: count.default(DEFAULT_LIMITS.maxPixels),
    maxSide: count.default(DEFAULT_LIMITS.maxSide),
    maxPromptLength: count.default(DEFAULT_LIMITS.maxPromptLength),
    maxMessageBytes: count.max(2 ** 31 - 1).default(DEFAULT_LIMITS.maxMessageBytes),
  }).prefault({}),
  /** What is run together and what may wait, for each reward. */
  batching: z.strictObject({
    maxBatch: count.default(DEFAULT_BATCHING.maxBatch),
    maxQueuedImages: count.default(DEFAULT_BATCHING.maxQueuedImages),
    maxQueuedBytes: count.default(DEFAULT_BATCHING.maxQueuedBytes),
  }).prefault({}),
  /** Sizes of images to be ready for: their sessions are made on load, up to this many images at a time. */
  warmUp: z.array(z.strictObject({ height: count, width: count, batch: count.default(1) }))
    .default([]),
  /** Bytes that a reward's sessions may hold beside shared weights, above which those longest unused are freed. */
  maxSessionBytes: count.default(2 ** 33),
  /** Pack the matrices of each reward's session that is used a third time, or of the largest that is warmed up. */
  packWeights: z.boolean().default(true),
  /**
   * Gives an image's score and gradient the same bits whatever else is asked, on every server of equal hardware and
   * `threads`: each image runs alone, and no matrix is packed, since both change the order of sums.
   */
  reproducible: z.boolean().default(false),
  /** PEM files. With `clientCa` callers must show a certificate it signed. */
  tls: z.strictObject({ cert: z.string(), key: z.string(), clientCa: z.string().optional() })
    .optional(),
  /** Serves RewardAdmin and the inference protocol's repository methods. The token is the file's first line. */
  admin: z.strictObject({
    host: z.string().default("127.0.0.1"),
    port,
    tokenFile: z.string(),
  }).optional(),
  /** Serves Prometheus' metrics on the same host. Default: not. */
  metricsPort: port.optional(),
  /** Calls in progress get this long to end when the server stops. */
  drainSeconds: z.number().nonnegative().default(30),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
}).superRefine((config, { addIssue }) => {
  const { rewards, default: name, limits, batching, warmUp } = config;
  const names = rewards.map((reward) => reward.name ?? reward.kind);
  names.forEach((name, i) => {
    if (names.indexOf(name) < i) {
      addIssue({
        code: "custom",
        path: ["rewards", i],
        message: `has the name ${name}, which is taken`,
      });
    }
  });
  if (name !== undefined && !names.includes(name)) {
    const message = `is ${name}, expected one of ${names.join(", ")}`;
    addIssue({ code: "custom", path: ["default"], message });
  }
  for (const [i, { height, width, batch }] of warmUp.entries()) {
    if (
      Math.max(height, width) <= limits.maxSide && batch <= maxBatchOf(config) &&
      batch * height * width <= limits.maxPixels
    ) continue;
    const message =
      `is ${batch} of ${height}x${width}, more than limits, batching.maxBatch or reproducible allow`;
    addIssue({ code: "custom", path: ["warmUp", i], message });
  }
  if (limits.maxImages > batching.maxQueuedImages) {
    const message = `is less than limits.maxImages, ${limits.maxImages}`;
    addIssue({ code: "custom", path: ["batching", "maxQueuedImages"], message });
  }
  // A request that never fits would be told that the queue is full, and sent again for ever.
  const bytes = PIXEL_BYTES * limits.maxPixels;
  if (bytes > batching.maxQueuedBytes) {
    const message = `is ${batching.maxQueuedBytes}, less than the ${bytes} bytes that ` +
      `limits.maxPixels, ${limits.maxPixels}, are in float32`;
    addIssue({ code: "custom", path: ["batching", "maxQueuedBytes"], message });
  }
});

/** A reward server's configuration, defaults filled in. */
export type RewardServerConfig = z.infer<typeof rewardServerSchema>;

/** Images that run together. */
function maxBatchOf(
  { batching, reproducible }: Pick<RewardServerConfig, "batching" | "reproducible">,
): number {
  return reproducible ? 1 : batching.maxBatch;
}

/** A reward server that listens and has loaded its rewards. */
export interface RewardServer {
  /** "host:port" of RewardService and the inference protocol. */
  readonly address: string;
  /** "host:port" of RewardAdmin, when it is served. */
  readonly adminAddress?: string;
  /** "host:port" of metrics, when they are served. */
  readonly metricsAddress?: string;
  /** Drains and ends everything. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Listens, then loads the rewards, one process each: health is answered all the while, and a reward's calls as soon as
 * it is there. Throws when an address is taken or a reward cannot be loaded; nothing is left running then.
 */
export async function startRewardServer(
  config: RewardServerConfig,
  { folder = Deno.cwd(), worker, log = createLogger({ level: config.logLevel }) }: {
    /** Folder that relative paths are in. */
    readonly folder?: string;
    /** Program that loads rewards. Default: the project's. */
    readonly worker?: URL;
    readonly log?: Logger;
  } = {},
): Promise<RewardServer> {
  const { limits, provider, threads } = config;
  const settings = {
    baseDir: folder,
    cacheDir: resolve(folder, config.cacheDir),
    ...(provider !== undefined && { provider }),
    ...(threads !== undefined && { threads }),
    maxBatch: maxBatchOf(config),
    maxSessionBytes: config.maxSessionBytes,
    packWeights: config.packWeights && !config.reproducible,
    warmUp: config.warmUp,
  };
  const servers: GrpcServer[] = [];
  const [calls, scored] = [new RpcMetrics(), new RewardMetrics()];
  let metrics: MetricsServer | undefined;
  const warned = new Set<string>();
  const warnOfCutPrompt = ({ truncated, info: { name, digest, promptTokens } }: ScoredJob) => {
    if (truncated.length === 0 || warned.has(digest)) return;
    warned.add(digest);
    log.warn("A prompt is longer than the reward reads and was cut; said once", {
      reward: name,
      promptTokens,
    });
  };
  const host = new LocalRewardHost({
    ...config.batching,
    maxBatch: maxBatchOf(config),
    ...(config.default !== undefined && { defaultName: config.default }),
    beginsWith: config.rewards.map(({ name, kind }) => name ?? kind),
    log,
    start: (name, record, onReady) =>
      SupervisedReward.start(
        () =>
          RewardProcess.start(name, record, {
            log,
            settings,
            ...(worker && { entry: worker }),
          }),
        { log, onReady },
      ),
    onScored: (job) => {
      scored.observe(job);
      warnOfCutPrompt(job);
    },
    onReady: (name, ready) => {
      const all = host.list().every(({ state }) => state === "ready");
      for (const server of servers) {
        server.setHealth(RewardService.typeName, all);
        server.setHealth(`${RewardService.typeName}/${name}`, ready);
      }
    },
  });
  const stop = async () => {
    await Promise.all(servers.map(({ stop }) => stop({ drainSeconds: config.drainSeconds })));
    await host.close();
    await metrics?.stop();
  };

  const tls = config.tls && await readServerTls(config.tls, folder);
  const common = {
    maxMessageBytes: limits.maxMessageBytes,
    log,
    observe: calls.observe,
    ...(tls && { tls }),
  };
  try {
    const server = await startGrpcServer({
      ...common,
      services: [rewardService(host, limits), inferenceService(host, { limits })],
      host: config.host,
      port: config.port,
    });
    servers.push(server);
    if (config.metricsPort !== undefined) {
      metrics = serveMetrics(() => [...calls.families(), ...scored.families(host)], {
        host: config.host,
        port: config.metricsPort,
      });
    }
    server.setHealth(RewardService.typeName, false);
    if (config.admin) {
      const token = await readToken(resolve(folder, config.admin.tokenFile));
      servers.push(
        await startGrpcServer({
          ...common,
          services: [
            rewardAdmin(host, { limits, token }),
            inferenceService(host, { limits, admin: { host, token } }),
          ],
          host: config.admin.host,
          port: config.admin.port,
        }),
      );
    }
    await Promise.all(
      config.rewards.map(({ name, ...record }) => host.load(name ?? record.kind, record)),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  const [{ address } = { address: "" }, admin] = servers;
  return {
    address,
    ...(admin && { adminAddress: admin.address }),
    ...(metrics && { metricsAddress: metrics.address }),
    stop,
  };
}
