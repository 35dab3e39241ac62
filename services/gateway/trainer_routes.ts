import { z } from "zod";
import { ExportLoraRequestSchema, TrainerService } from "../../proto/mod.ts";
import type { GrpcClient } from "../rpc/mod.ts";
import { callerSignal } from "./caller.ts";
import { checked, queryValue, requestMessage } from "./request_message.ts";
import { HttpError } from "./http_error.ts";
import type { Route } from "./route.ts";
import { type RpcEnvironment, streamRoute, unaryRoute } from "./rpc_routes.ts";
import type { SampleFiles } from "./sample_files.ts";

/** The routes of `TrainerService`, and of the images that its runs wrote. */
export function trainerRoutes(
  trainer: GrpcClient<typeof TrainerService>,
  { environment, samples }: {
    readonly environment: RpcEnvironment;
    readonly samples: SampleFiles;
  },
): Route[] {
  const { method: rpc } = TrainerService;
  const tag = "Runs";
  return [
    unaryRoute(rpc.listRuns, (request, options) => trainer.listRuns(request, options), {
      binding: { method: "get", path: "/v1/runs", tag, summary: "List runs" },
      environment,
    }),
    unaryRoute(rpc.listWorkers, (request, options) => trainer.listWorkers(request, options), {
      binding: { method: "get", path: "/v1/workers", tag, summary: "List workers" },
      environment,
    }),
    unaryRoute(rpc.startRun, (request, options) => trainer.startRun(request, options), {
      binding: { method: "post", path: "/v1/runs", tag, summary: "Start a run" },
      environment,
      created: { when: "The run is new.", is: ({ created }) => created },
    }),
    unaryRoute(rpc.getRun, (request, options) => trainer.getRun(request, options), {
      binding: { method: "get", path: "/v1/runs/{runId}", tag, summary: "Get a run" },
      environment,
    }),
    unaryRoute(rpc.deleteRun, (request, options) => trainer.deleteRun(request, options), {
      binding: { method: "delete", path: "/v1/runs/{runId}", tag, summary: "Delete a run" },
      environment,
    }),
    streamRoute(rpc.watchRun, (request, options, { req }) => {
      const last = req.header("last-event-id");
      const fromStep = last === undefined
        ? checked(fromStepSchema, request).fromStep
        : lastStep(last) + 1;
      return trainer.watchRun({ ...request, fromStep }, options);
    }, {
      binding: {
        method: "get",
        path: "/v1/runs/{runId}/events",
        tag,
        summary: "Watch a run",
        parameters: [{
          name: "last-event-id",
          in: "header",
          schema: stepSchema,
          description:
            "Step of the last event that arrived; continues after it. Goes before fromStep.",
        }],
      },
      environment,
      idOf: ({ event }) => event.case === "step" ? String(event.value.step) : undefined,
    }),
    unaryRoute(rpc.stopRun, (request, options) => trainer.stopRun(request, options), {
      binding: { method: "post", path: "/v1/runs/{runId}/stop", tag, summary: "Stop a run" },
      environment,
    }),
    unaryRoute(rpc.saveRun, (request, options) => trainer.saveRun(request, options), {
      binding: { method: "post", path: "/v1/runs/{runId}/save", tag, summary: "Save a run now" },
      environment,
    }),
    unaryRoute(rpc.resumeRun, (request, options) => trainer.resumeRun(request, options), {
      binding: { method: "post", path: "/v1/runs/{runId}/resume", tag, summary: "Resume a run" },
      environment,
    }),
    unaryRoute(rpc.swapReward, (request, options) => trainer.swapReward(request, options), {
      binding: {
        method: "post",
        path: "/v1/runs/{runId}/swap",
        tag,
        summary: "Change a run's rewards",
      },
      environment,
    }),
    streamRoute(rpc.sample, (request, options) => trainer.sample(request, options), {
      binding: { method: "post", path: "/v1/runs/{runId}/sample", tag, summary: "Draw images" },
      environment,
    }),
    streamRoute(rpc.evaluateRun, (request, options) => trainer.evaluateRun(request, options), {
      binding: {
        method: "post",
        path: "/v1/runs/{runId}/evaluate",
        tag,
        summary: "Measure rewards with and without the LoRA",
      },
      environment,
    }),
    unaryRoute(rpc.planRun, (request, options) => trainer.planRun(request, options), {
      binding: {
        method: "post",
        path: "/v1/plan",
        tag,
        summary: "Estimate a run before it starts",
      },
      environment,
    }),
    unaryRoute(
      rpc.describeTrainer,
      (request, options) => trainer.describeTrainer(request, options),
      {
        binding: {
          method: "get",
          path: "/v1/trainer",
          tag,
          summary: "List models, prompt files and methods",
        },
        environment,
      },
    ),
    exportRoute(trainer, environment),
    imageRoute(samples, environment),
  ];
}

const fromStepSchema = z.object({ fromStep: z.int().min(0) });

const MAX_STEP = 2 ** 31 - 2;
const stepSchema = z.int().min(0).max(MAX_STEP);

/** The step that a header's text says. */
function lastStep(text: string): number {
  const step = Number(text);
  if (/^\d+$/.test(text) && step <= MAX_STEP) return step;
  const message = `Header last-event-id is ${JSON.stringify(text)}, expected 0 to ${MAX_STEP}`;
  throw new HttpError("INVALID_ARGUMENT", message, { field: "last-event-id" });
}

function exportRoute(
  trainer: GrpcClient<typeof TrainerService>,
  { schemas, stopping }: RpcEnvironment,
): Route {
  const descriptor = TrainerService.method.exportLora;
  const { input } = descriptor;
  const comment = (name: string) => schemas.comment(`${input.typeName}.${name}`);
  return {
    method: "get",
    path: "/v1/runs/{runId}/lora",
    tag: "Runs",
    operationId: "exportLora",
    summary: "Download a LoRA",
    description:
      "The file of ExportLora. Its sha256 is the ETag, its checkpoint the x-step header.",
    parameters: input.fields.map((field) => ({
      name: field.jsonName,
      in: field.jsonName === "runId" ? "path" : "query",
      schema: schemas.field(field),
      description: comment(field.name),
    })),
    response: {
      status: 200,
      description: "A safetensors file.",
      content: { "application/octet-stream": schemas.binary() },
    },
    handle: async ({ req }) => {
      const query = queryValue(input, new URL(req.url).searchParams);
      const request = requestMessage(ExportLoraRequestSchema, query, {
        schemas,
        params: req.param(),
      });
      const signal = AbortSignal.any([stopping, callerSignal(req.raw)]);
      const parts = trainer.exportLora(request, { signal })[Symbol.asyncIterator]();
      const first = await parts.next();
      const part = first.done ? undefined : first.value.part;
      if (part?.case !== "file") {
        await parts.return?.();
        throw new HttpError("INTERNAL", "The trainer sent no file", { status: 502 });
      }
      const { name, size, sha256, step } = part.value;
      const body = new ReadableStream<Uint8Array>({
        async pull(controller) {
          const { done, value } = await parts.next();
          if (done) controller.close();
          else if (value.part.case === "data") controller.enqueue(value.part.value);
        },
        async cancel() {
          await parts.return?.();
        },
      }, { highWaterMark: 1 });
      return new Response(body, {
        headers: {
          "content-type": "application/octet-stream",
          "content-disposition": `attachment; filename="${name.replaceAll(/[^\w.-]/g, "_")}"`,
          "content-length": String(size),
          etag: `"${sha256}"`,
          "x-step": String(step),
        },
      });
    },
  };
}

function imageRoute(samples: SampleFiles, { schemas }: RpcEnvironment): Route {
  return {
    method: "get",
    path: "/v1/runs/{runId}/images/{path}",
    tag: "Runs",
    operationId: "getSampleImage",
    summary: "Get an image of a run",
    description: "An image that a run's events name (SampleReference.path, StepEvent.images).",
    parameters: [
      { name: "runId", in: "path", schema: z.string(), description: "See Run.id." },
      {
        name: "path",
        in: "path",
        schema: z.string(),
        rest: true,
        description: "As the event names it, slashes and all.",
      },
    ],
    response: {
      status: 200,
      description: "The image.",
      content: { "image/png": schemas.binary(), "image/jpeg": schemas.binary() },
    },
    handle: async ({ req }) => {
      const { runId = "", path = "" } = req.param();
      const bytes = await samples.read(runId, path);
      return new Response(bytes, {
        headers: {
          "content-type": path.endsWith(".jpg") ? "image/jpeg" : "image/png",
          "cache-control": "private, no-cache",
        },
      });
    },
  };
}
