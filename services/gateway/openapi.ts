import type { JsonValue } from "@bufbuild/protobuf";
import { z } from "zod";
import type { MessageSchemas } from "./message_schemas.ts";
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
  const registry = schemas.registry;
  const schemaOf = (schema: z.ZodType): unknown => {
    const id = registry.get(schema)?.id;
    if (typeof id === "string") return { $ref: `#/components/schemas/${id}` };
    return componentOf(z.toJSONSchema(schema, { io: "input", metadata: registry }));
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
    (paths[route.path] ??= {})[route.method] = {
      tags: [route.tag],
      operationId: route.operationId,
      summary: route.summary,
      ...(route.description && { description: route.description }),
      ...(route.parameters?.length && { parameters: route.parameters.map(parameter) }),
      ...(body && {
        requestBody: { required: body.required ?? false, content: content(body.content) },
      }),
      responses: {
        [response.status]: {
          description: response.description,
          ...(response.content && { content: content(response.content) }),
        },
        default: { $ref: "#/components/responses/Error" },
      },
    };
  }
  const components = z.toJSONSchema(registry, {
    io: "input",
    metadata: registry,
    uri: (id) => `#/components/schemas/${id}`,
  });
  return {
    openapi: "3.1.0",
    info: {
      title: "DRTune gateway",
      version: "1",
      description:
        "Tunes text-to-image diffusion models with the gradients of rewards. Messages are " +
        "those of the gRPC services in protobuf's JSON form; names in requests may also be in " +
        "snake_case.",
    },
    servers: [{ url: "/" }],
    ...(secured && { security: [{ token: [] }] }),
    tags: ["Runs", "Rewards", "Gateway"].map((name) => ({ name })),
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
        ...Object.entries(components.schemas).map(([id, schema]) => [id, componentOf(schema)]),
        ["Error", ERROR_SCHEMA],
      ]),
    },
  };
}

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
