import type { JsonValue } from "@bufbuild/protobuf";
import { z } from "zod";
import type { MessageSchemas } from "../rpc/mod.ts";
import type { Route, RouteContent, RouteParameter } from "./route.ts";

/** The OpenAPI 3.1 document of a route table. */
export function openApiDocument(
  routes: readonly Route[],
  { schemas, secured }: {
    readonly schemas: MessageSchemas;
    /** A token is asked for. */
    readonly secured: boolean;
  },
): Record<string, unknown> {
  // Components are converted together with what only a route has, so that all refer to the same.
  const converted = z.registry<{ id?: string | undefined }>();
  for (const [id, schema] of schemas.components) converted.add(schema, { id });
  const inline = new Map<z.ZodType, Record<string, unknown>>();
  const schemaOf = (schema: z.ZodType): unknown => {
    const known = inline.get(schema);
    if (known !== undefined) return known;
    const id = converted.get(schema)?.id;
    if (id !== undefined) return { $ref: `#/components/schemas/${id}` };
    // Filled in below.
    const place = {};
    converted.add(schema, { id: `${INLINE}${inline.size}` });
    inline.set(schema, place);
    return place;
  };
  const content = (types: RouteContent) =>
    Object.fromEntries(
      Object.entries(types).map(([type, schema]) => [
        type,
        "events" in schema
          ? {
            schema: {
              type: "string",
              description: `Events: ${Object.keys(schema.events).join(", ")}.`,
            },
            "x-events": Object.fromEntries(
              Object.entries(schema.events).map(([name, data]) => [name, schemaOf(data)]),
            ),
          }
          : { schema: schemaOf(schema) },
      ]),
    );
  const parameter = ({ name, in: where, schema, description, required }: RouteParameter) => ({
    name,
    in: where,
    required: required ?? where === "path",
    ...(description && { description }),
    schema: schemaOf(schema),
  });
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const { response, body } = route;
    const answer = (description: string) => ({
      description,
      ...(response.content && { content: content(response.content) }),
    });
    (paths[route.path] ??= {})[route.method] = {
      tags: [route.tag],
      operationId: route.operationId,
      summary: route.summary,
      ...(secured && route.open && { security: [] }),
      ...(route.description && { description: route.description }),
      ...(route.parameters?.length && { parameters: route.parameters.map(parameter) }),
      ...(body && {
        requestBody: { required: body.required ?? false, content: content(body.content) },
      }),
      responses: {
        [response.status]: answer(response.description),
        ...(response.created && { 201: answer(response.created) }),
        default: { $ref: "#/components/responses/Error" },
      },
    };
  }
  const components = z.toJSONSchema(converted, {
    io: "input",
    metadata: schemas.registry,
    uri: (id) => `#/components/schemas/${id}`,
  });
  [...inline.values()].forEach((place, i) => {
    Object.assign(place, componentOf(components.schemas[`${INLINE}${i}`] ?? {}));
  });
  return {
    openapi: "3.1.0",
    info: {
      title: "DRTune gateway",
      version: "1",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      description:
        "Tunes text-to-image diffusion models with the gradients of rewards. Messages are " +
        "those of the gRPC services in protobuf's JSON form; names in requests may also be in " +
        "snake_case.",
    },
    servers: [{ url: "/" }],
    security: secured ? [{ token: [] }] : [],
    tags: [
      { name: "Runs", description: "The verbs of drtune.trainer.v1.TrainerService." },
      { name: "Rewards", description: "The verbs of drtune.reward.v1.RewardService." },
      {
        name: "Gateway",
        description: "What the gateway adds: overview, presets, health, metrics.",
      },
    ],
    paths,
    components: {
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "The gateway's token, if it has one.",
        },
      },
      responses: {
        Error: {
          description: "The request cannot be answered as asked.",
          content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
        },
      },
      schemas: Object.fromEntries([
        ...Object.entries(components.schemas).filter(([id]) => !id.startsWith(INLINE))
          .map(([id, schema]) => [id, componentOf(schema)]),
        ["Error", ERROR_SCHEMA],
      ]),
    },
  };
}

/** Begins the ids of schemas that stand in a route and not among the components. */
const INLINE = "inline:";

/** A schema without what only stand-alone ones need. */
function componentOf({ $schema: _, $id: __, ...schema }: Readonly<Record<string, unknown>>) {
  return schema;
}

const ERROR_SCHEMA: JsonValue = {
  type: "object",
  description: "The body of every error.",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      description: "What is wrong.",
      required: ["code", "message"],
      properties: {
        code: {
          type: "string",
          description: "Name of a gRPC status code.",
          examples: ["NOT_FOUND"],
        },
        message: { type: "string", description: "What was found and what was expected." },
        field: {
          type: "string",
          description: "Field that is wrong.",
          examples: ["config.lora.rank"],
        },
        line: { type: "integer", description: "Line of the body it stands on, from 1." },
      },
    },
  },
};
