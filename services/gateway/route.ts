import type { Context } from "hono";
import type { z } from "zod";

/** Part of the API a route belongs to. */
export type RouteTag = "Runs" | "Rewards" | "Gateway";

/** A value in a route's path or query. */
export interface RouteParameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly schema: z.ZodType;
  readonly description?: string | undefined;
  readonly required?: boolean;
  /** The parameter takes the rest of the path, slashes too. */
  readonly rest?: boolean;
}

/** What is sent or answered, by media type. Of a stream of events the schemas are those of their data, by name. */
export type RouteContent = Readonly<
  Record<string, z.ZodType | { readonly events: Readonly<Record<string, z.ZodType>> }>
>;

/** One row of the route table: what the server does and what its OpenAPI document says come from here alone. */
export interface Route {
  readonly method: "get" | "post" | "delete";
  /** OpenAPI template, as "/v1/runs/{runId}". */
  readonly path: string;
  readonly tag: RouteTag;
  /** Unique name for generated clients. */
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string | undefined;
  readonly parameters?: readonly RouteParameter[];
  readonly body?: {
    readonly content: RouteContent;
    readonly required?: boolean;
    /** A larger body answers 413. Default 1 MiB; Infinity where the route reads it in pieces. */
    readonly maxBytes?: number;
  };
  readonly response: {
    readonly status: number;
    readonly description: string;
    /** Where it may also be 201: when. */
    readonly created?: string;
    readonly content?: RouteContent;
  };
  /** It answers without a token, too. */
  readonly open?: true;
  readonly handle: (context: Context) => Response | Promise<Response>;
}
