import { fromJson, type MessageShape } from "@bufbuild/protobuf";
import type { Context } from "hono";
import { z } from "zod";
import {
  type EvaluateRequest,
  EvaluateRequestSchema,
  type ImageSchema,
  RewardService,
  type ScoreRequest,
} from "../../proto/mod.ts";
import { DEFAULT_MAX_MESSAGE_BYTES, type GrpcClient, StatusError } from "../common/mod.ts";
import { HttpError } from "./http_error.ts";
import { jsonLines } from "./json_lines.ts";
import { MESSAGE_TYPES, requestMessage } from "./request_message.ts";
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
  /** "host:port". */
  readonly address: string;
  readonly client: GrpcClient<typeof RewardService>;
}

/** The routes of `RewardService`, on each server the gateway knows. */
export function rewardRoutes(servers: RewardServers, environment: RpcEnvironment): Route[] {
  const { method: rpc } = RewardService;
  const { schemas, stopping, onStream } = environment;
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
        content: { ...score.body?.content, "multipart/form-data": scoreForm },
      },
      handle: async (context) => {
        const type = context.req.header("content-type") ?? "";
        if (!type.startsWith("multipart/form-data")) return await score.handle(context);
        const request = await readScoreForm(context.req.raw);
        const { signal } = context.req.raw;
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
        const gone = new AbortController();
        const signal = AbortSignal.any([gone.signal, stopping, request.signal]);
        const answers = client.evaluate(evaluateRequests(request, environment), { signal });
        return await streamOnceStarted(eventsOf(answers, EVENT), {
          onEnd: endsOnce(onStream(), () => gone.abort()),
        });
      },
    },
  ];
}

const EVENT = RewardService.method.evaluate.output;

const text = z.union([z.string(), z.array(z.string())]);

const scoreForm = z.strictObject({
  image: z.union([z.string(), z.array(z.string())])
    .meta({ description: "PNG or JPEG files.", contentMediaType: "image/*" }),
  prompt: text.optional().meta({ description: "One for each image, or one for all." }),
  reward: z.string().optional().meta({ description: "Name of the reward on that server." }),
});

/** Reads a form with files into the request that it stands for. */
async function readScoreForm(request: Request): Promise<Partial<ScoreRequest>> {
  let form: FormData;
  try {
    form = await request.formData();
  } catch (cause) {
    throw new HttpError("INVALID_ARGUMENT", "Body is not a form", { cause });
  }
  const texts = (name: string) =>
    form.getAll(name).map((value) => {
      if (typeof value === "string") return value;
      throw new HttpError("INVALID_ARGUMENT", `Field ${name} is a file, expected text`, {
        field: name,
      });
    });
  for (const field of form.keys()) {
    if (!["image", "prompt", "reward"].includes(field)) {
      const message = `Field ${field} is not known here, expected one of image, prompt, reward`;
      throw new HttpError("INVALID_ARGUMENT", message, { field });
    }
  }
  const images = await Promise.all(form.getAll("image").map(readImage));
  return { reward: texts("reward")[0] ?? "", prompts: texts("prompt"), images };
}
