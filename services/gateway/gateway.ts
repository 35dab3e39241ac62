import { z } from "zod";
import { TrainerService } from "../../proto/mod.ts";
import { createLogger, type Logger } from "../../base/mod.ts";
import { type ClientTls, grpcClient, MessageSchemas, rewardClient } from "../rpc/mod.ts";
import { gatewayApp } from "./app.ts";
import { HeldBodies } from "./body_limit.ts";
import { BodyReader } from "./body_reader.ts";
import { gatewayRoutes } from "./gateway_routes.ts";
import { HttpError } from "./http_error.ts";
import { GatewayMetrics } from "./gateway_metrics.ts";
import { openApiDocument } from "./openapi.ts";
import { Overview } from "./overview.ts";
import { readPage } from "./page_files.ts";
import { readPresets } from "./presets.ts";
import { parseProtoComments } from "./proto_comments.ts";
import { rewardRoutes } from "./reward_routes.ts";
import type { Route } from "./route.ts";
import { SampleFiles } from "./sample_files.ts";
import { trainerRoutes } from "./trainer_routes.ts";

/** Whom a gateway speaks for. */
export interface GatewayOptions {
  /** Address of the trainer: "host:port" or "grpcs://host:port". */
  readonly trainer: string;
  /** What the trainer asks for. Default: nothing. */
  readonly trainerToken?: string;
  /** Addresses of reward servers, by the name they have in paths. */
  readonly rewards?: ReadonlyMap<string, string>;
  /** For addresses that begin with "grpcs://". */
  readonly tls?: ClientTls;
  /** The trainer's folder of runs, for sample images. Default: none are served. */
  readonly runs?: string;
  /** Asked for on every route. Default: none. */
  readonly token?: string;
  /** Folder of run configurations. Default: the project's. */
  readonly presets?: URL;
  /** Only this machine reaches the gateway. Default true. */
  readonly loopback?: boolean;
  readonly log?: Logger;
}

/** A gateway without a socket. */
export interface Gateway {
  readonly routes: readonly Route[];
  /** Answers a request. */
  readonly fetch: (request: Request) => Response | Promise<Response>;
  /** Ends streams with an "error" event and answers 503 to what asks whether it is ready. */
  stop(): void;
  /** Closes the connections to services. */
  close(): void;
}

/** Bytes of all bodies that are held at a time: four of the largest. */
const MAX_HELD_BYTES = 2 ** 28;

const PROTOS = ["drtune/trainer/v1/trainer.proto", "drtune/reward/v1/reward.proto"];

/** Makes a gateway. It connects to its services with the first requests, whether they are there yet or not. */
export async function createGateway(
  {
    trainer: trainerAddress,
    trainerToken,
    rewards: addresses = new Map(),
    tls = {},
    runs,
    token,
    presets: presetFolder = new URL("../../configs/", import.meta.url),
    loopback = true,
    log = createLogger(),
  }: GatewayOptions,
): Promise<Gateway> {
  const sources = await Promise.all(
    PROTOS.map((path) => Deno.readTextFile(new URL(`../../proto/${path}`, import.meta.url))),
  );
  const schemas = new MessageSchemas(parseProtoComments(sources));
  const presets = await readPresets(presetFolder, { addresses, log });
  const page = await readPage();

  // A restarted service is found again without the caller noticing.
  const connection = { tls, retry: { attempts: 3 } };
  const trainer = grpcClient(TrainerService, trainerAddress, {
    ...connection,
    ...(trainerToken !== undefined && { token: trainerToken }),
  });
  const rewards = new Map(
    [...addresses].map(([name, address]) => [
      name,
      { address, client: rewardClient(address, connection) },
    ]),
  );

  const metrics = new GatewayMetrics();
  const stopping = new AbortController();
  const bodies = new BodyReader(schemas);
  const held = new HeldBodies(MAX_HELD_BYTES);
  const environment = {
    schemas,
    bodies,
    held,
    log,
    stopping: stopping.signal,
    onStream: () => {
      metrics.streams++;
      return () => void metrics.streams--;
    },
  };
  const overview = new Overview({ trainer, trainerAddress, rewards, log });
  const routes: Route[] = [
    ...trainerRoutes(trainer, { environment, samples: new SampleFiles(trainer, runs) }),
    ...rewardRoutes(rewards, environment),
    ...gatewayRoutes({ trainer, overview, presets, metrics, environment }),
    {
      method: "get",
      path: "/openapi.json",
      tag: "Gateway",
      operationId: "getOpenApi",
      summary: "This document",
      response: {
        status: 200,
        description: "OpenAPI 3.1. /docs shows it.",
        content: { "application/json": z.looseObject({}) },
      },
      handle: () => Response.json(document),
    },
  ];
  const document = openApiDocument(routes, { schemas, secured: token !== undefined });
  const app = gatewayApp({
    routes,
    held,
    page,
    loopback,
    metrics,
    log,
    ...(token !== undefined && { token }),
  });
  return {
    routes,
    fetch: (request) => app.fetch(request),
    stop: () => stopping.abort(new HttpError("UNAVAILABLE", "The gateway is stopping")),
    close: () => {
      bodies.close();
      trainer.close();
      for (const { client } of rewards.values()) client.close();
    },
  };
}
