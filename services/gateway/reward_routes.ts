import type { Context } from "hono";
import { z } from "zod";
import { type EvaluateRequest, EvaluateRequestSchema, RewardService } from "../../proto/mod.ts";
import { DEFAULT_MAX_MESSAGE_BYTES, type GrpcClient } from "../rpc/mod.ts";
import { callerSignal } from "./caller.ts";
import { HttpError } from "./http_error.ts";
import type { MessageSchemas } from "../rpc/mod.ts";
import { readLines } from "./read_lines.ts";
import { mediaType, refuseType } from "./request_message.ts";
import type { Route, RouteParameter } from "./route.ts";
import {
  endsOnce,
  eventSchemas,
  eventsOf,
  messageJson,
  type RpcBinding,
  type RpcEnvironment,
  streamOnceStarted,
  unaryRoute,
} from "./rpc_routes.ts";

/** Reward servers by the name the gateway has for them. */
export type RewardServers = ReadonlyMap<string, RewardServer>;

/** A reward server the gateway knows. */
export interface RewardServer {
  /** Its address, or its replicas'; see `parseReplicaAddresses`. */
  readonly address: string;
  readonly client: GrpcClient<typeof RewardService>;
}

/** The routes of `RewardService`, on each server the gateway knows. */
export function rewardRoutes(servers: RewardServers, environment: RpcEnvironment): Route[] {
  const { method: rpc } = RewardService;
  const { schemas, bodies, log, stopping, onStream } = environment;
  const serverOf = ({ req }: Context): RewardServer => {
    const name = req.param("server") ?? "";
    const server = servers.get(name);
    if (server) return server;
    const known = [...servers.keys()].join(", ") || "none";
    throw new HttpError("NOT_FOUND", `No reward server ${name}; there are: ${known}`);
  };
  const parameters: RouteParameter[] = [{
    name: "server",
    in: "path",
    schema: z.string(),
    description: "A name of GET /v1/services.",
  }];
  const binding = (method: Route["method"], path: string, summary: string): RpcBinding => ({
    method,
    path: `/v1/rewards/{server}${path}`,
    tag: "Rewards",
    summary,
    parameters,
    maxBytes: DEFAULT_MAX_MESSAGE_BYTES,
  });
  const score = unaryRoute(
    rpc.score,
    (request, options, context) => serverOf(context).client.score(request, options),
    { binding: binding("post", "/score", "Score images"), environment },
  );
  return [
    unaryRoute(
      rpc.describe,
      (request, options, context) => serverOf(context).client.describe(request, options),
      { binding: binding("get", "", "Describe rewards"), environment },
    ),
    {
      ...score,
      description: `${score.description}\n\nAlso takes a form with PNG or JPEG files, as ` +
        "`curl -F image=@cat.png -F prompt='a cat'`.",
      body: {
        maxBytes: DEFAULT_MAX_MESSAGE_BYTES,
        content: { ...score.body?.content, "multipart/form-data": scoreForm(schemas) },
      },
      handle: async (context) => {
        const type = context.req.header("content-type") ?? "";
        if (!type.startsWith("multipart/form-data")) return await score.handle(context);
        const request = await bodies.form({ bytes: await context.req.raw.bytes(), type });
        const signal = callerSignal(context.req.raw);
        const response = await serverOf(context).client.score(request, { signal });
        return Response.json(messageJson(rpc.score.output, response));
      },
    },
    unaryRoute(
      rpc.scoreAndGradient,
      (request, options, context) => serverOf(context).client.scoreAndGradient(request, options),
      { binding: binding("post", "/gradient", "Score images and differentiate"), environment },
    ),
    {
      method: "post",
      path: "/v1/rewards/{server}/evaluate",
      tag: "Rewards",
      operationId: "evaluate",
      summary: "Score a stream of images",
      description: `${schemas.comment(`${RewardService.typeName}.Evaluate`)}\n\n` +
        "The body is one EvaluateRequest a line; answers come while it is still being sent.",
      parameters,
      body: {
        content: { "application/x-ndjson": schemas.message(rpc.evaluate.input) },
        required: true,
        maxBytes: Infinity,
      },
      response: {
        status: 200,
        description: "One event for each image.",
        content: { "text/event-stream": { events: eventSchemas(EVENT, schemas) } },
      },
      handle: async (context) => {
        const { client } = serverOf(context);
        const request = context.req.raw;
        const type = mediaType(request);
        if (!LINES_TYPES.includes(type)) refuseType(type, LINES_TYPES);
        const gone = new AbortController();
        const signal = AbortSignal.any([gone.signal, stopping, callerSignal(request)]);
        const answers = client.evaluate(evaluateRequests(request, environment), { signal });
        return await streamOnceStarted(eventsOf(answers, EVENT), {
          log,
          onEnd: endsOnce(onStream(), () => gone.abort()),
        });
      },
    },
  ];
}

const EVENT = RewardService.method.evaluate.output;

/** Media types of one JSON value a line. */
const LINES_TYPES = ["application/x-ndjson", "application/jsonl", "application/json"];

function scoreForm({ registry }: MessageSchemas): z.ZodType {
  const texts = z.array(z.string());
  return z.strictObject({
    image: z.array(z.string().register(registry, { format: "binary" }))
      .register(registry, { description: "PNG or JPEG files." }),
    prompt: texts.optional()
      .register(registry, { description: "One for each image, or one for all." }),
    reward: z.string().optional()
      .register(registry, { description: "Name of the reward on that server." }),
  });
}

async function* evaluateRequests(
  request: Request,
  { bodies, held }: RpcEnvironment,
): AsyncIterable<EvaluateRequest> {
  const lines = readLines(request.body, { maxBytes: DEFAULT_MAX_MESSAGE_BYTES, held });
  for await (const { text, line } of lines) {
    try {
      yield await bodies.read(EvaluateRequestSchema, { text, type: "application/json" });
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      const { code, field } = error;
      // The object stands on one line of the body.
      const message = error.message.replace(/^Line 1, column/, "column");
      throw new HttpError(code, `Line ${line}: ${message}`, { line, ...(field && { field }) });
    }
  }
}
