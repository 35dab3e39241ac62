import { z } from "zod";
import { RunConfigSchema, RunSchema, type TrainerService } from "../../proto/mod.ts";
import { allRuns, type GrpcClient } from "../rpc/mod.ts";
import { callerSignal } from "./caller.ts";
import { CONFIG_EDIT, MAX_EDIT_BYTES } from "./edit_config.ts";
import { HttpError } from "./http_error.ts";
import { formatMetrics, gauge, METRICS_TYPE, processMetrics } from "../rpc/metrics/mod.ts";
import type { GatewayMetrics } from "./gateway_metrics.ts";
import type { Overview } from "./overview.ts";
import type { Preset } from "./presets.ts";
import { mediaType, MESSAGE_TYPES } from "./request_message.ts";
import type { Route } from "./route.ts";
import { endsOnce, messageJson, type RpcEnvironment, streamOnceStarted } from "./rpc_routes.ts";
import { runMetrics } from "./run_metrics.ts";

/** Scraping must not wait for a trainer that is away. */
const SCRAPE_TIMEOUT_MS = 2000;

/** The routes that are the gateway's own: the overview for the page, presets, health, metrics. */
export function gatewayRoutes(
  { trainer, overview, presets, metrics, environment }: {
    readonly trainer: GrpcClient<typeof TrainerService>;
    readonly overview: Overview;
    readonly presets: readonly Preset[];
    readonly metrics: GatewayMetrics;
    readonly environment: RpcEnvironment;
  },
): Route[] {
  const { schemas, bodies, log, stopping, onStream } = environment;
  const runConfig = schemas.message(RunConfigSchema);
  const health = z.object({
    name: z.string(),
    address: z.string(),
    ready: z.boolean(),
    reason: z.string(),
  });
  const services = schemas.component(
    "Services",
    z.object({
      trainer: health,
      rewards: z.array(health.extend({
        rewards: z.array(z.looseObject({ name: z.string(), digest: z.string() })).optional(),
      })),
    }),
    "The services and whether they answer; reward servers that do, with RewardDescription.",
  );
  const run = schemas.message(RunSchema);
  const ok = z.object({ status: z.literal("ok") });
  return [
    {
      method: "get",
      path: "/v1/services",
      tag: "Gateway",
      operationId: "getServices",
      summary: "Ask every service how it is",
      response: {
        status: 200,
        description: "The services, with the digests of their weights.",
        content: { "application/json": services },
      },
      handle: async () => Response.json(await overview.services()),
    },
    {
      method: "get",
      path: "/v1/overview",
      tag: "Gateway",
      operationId: "watchOverview",
      summary: "Watch all runs and services",
      description: "What there is, then what changes.",
      response: {
        status: 200,
        description: "Events without end.",
        content: {
          "text/event-stream": {
            events: { run, deleted: z.object({ id: z.string() }), services, ready: z.object({}) },
          },
        },
      },
      handle: ({ req }) => {
        const gone = new AbortController();
        const signal = AbortSignal.any([gone.signal, stopping, callerSignal(req.raw)]);
        return streamOnceStarted(overview.watch(signal), {
          log,
          onEnd: endsOnce(onStream(), () => gone.abort()),
        });
      },
    },
    {
      method: "get",
      path: "/v1/presets",
      tag: "Gateway",
      operationId: "listPresets",
      summary: "List configurations to start from",
      response: {
        status: 200,
        description:
          "Run configurations in YAML and in JSON, with the addresses of the rewards the gateway knows.",
        content: {
          "application/json": z.object({
            presets: z.array(
              z.object({
                name: z.string(),
                description: z.string(),
                yaml: z.string(),
                config: runConfig,
              }),
            ),
          }),
        },
      },
      handle: () => Response.json({ presets }),
    },
    {
      method: "post",
      path: "/v1/configs/check",
      tag: "Gateway",
      operationId: "checkConfig",
      summary: "Check a run configuration",
      description: "Answers it in JSON, or the field and line that is wrong. Starts nothing.",
      body: { content: Object.fromEntries(MESSAGE_TYPES.map((type) => [type, runConfig])) },
      response: {
        status: 200,
        description: "The configuration.",
        content: { "application/json": runConfig },
      },
      handle: async ({ req }) => {
        const text = await req.raw.text();
        const type = text.trim() === "" ? "" : mediaType(req.raw);
        const config = await bodies.read(RunConfigSchema, { text, type });
        return Response.json(messageJson(RunConfigSchema, config));
      },
    },
    {
      method: "post",
      path: "/v1/configs/edit",
      tag: "Gateway",
      operationId: "editConfig",
      summary: "Change fields of a run configuration in YAML",
      description:
        "Answers the text with these fields changed and all else, comments too, as it was written, " +
        "and the configuration in JSON. Starts nothing.",
      body: { content: { "application/json": CONFIG_EDIT }, maxBytes: MAX_EDIT_BYTES },
      response: {
        status: 200,
        description: "The text and the configuration.",
        content: { "application/json": z.object({ yaml: z.string(), config: runConfig }) },
      },
      handle: async ({ req }) => {
        const body = { text: await req.raw.text(), type: mediaType(req.raw) };
        const { yaml, config } = await bodies.edit(body);
        return Response.json({ yaml, config: messageJson(RunConfigSchema, config) });
      },
    },
    {
      method: "get",
      path: "/healthz",
      open: true,
      tag: "Gateway",
      operationId: "isAlive",
      summary: "Is the gateway alive?",
      response: { status: 200, description: "Yes.", content: { "application/json": ok } },
      handle: () => Response.json({ status: "ok" }),
    },
    {
      method: "get",
      path: "/readyz",
      open: true,
      tag: "Gateway",
      operationId: "isReady",
      summary: "Can the gateway do its work?",
      description: "Answers 503 when the trainer does not answer or the gateway is stopping.",
      response: { status: 200, description: "Yes.", content: { "application/json": ok } },
      handle: async () => {
        stopping.throwIfAborted();
        // Who has no token is not told where it is.
        if (!await overview.trainerIsReady()) {
          const message = "The trainer does not answer; GET /v1/services says why";
          throw new HttpError("UNAVAILABLE", message);
        }
        return Response.json({ status: "ok" });
      },
    },
    {
      method: "get",
      path: "/metrics",
      tag: "Gateway",
      operationId: "getMetrics",
      summary: "Metrics for Prometheus",
      response: {
        status: 200,
        description:
          "Requests, streams, memory, and each run's step, loss, gradient norm and rewards.",
        content: { "text/plain": z.string() },
      },
      handle: async () => {
        const runs = await allRuns(trainer, { timeoutMs: SCRAPE_TIMEOUT_MS })
          .catch(() => undefined);
        const up = gauge("drtune_trainer_up", "1 while the trainer answers.", {
          samples: [[{}, runs ? 1 : 0]],
        });
        const families = [...metrics.families(), up, ...runMetrics(runs ?? [])];
        return new Response(formatMetrics([...families, ...await processMetrics()]), {
          headers: { "content-type": METRICS_TYPE },
        });
      },
    },
  ];
}
