import { json } from "./api.ts";

/** A schema of /openapi.json, which is the contract with its comments. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly string[];
  readonly format?: string;
}

/** What of /openapi.json is about messages. */
export interface Contract {
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** Asks for the contract. */
export function readContract<T extends Contract>(signal: AbortSignal): Promise<T> {
  return json<T>("/openapi.json", { signal });
}

/** A schema, or the one that it refers to. */
export function resolve(schema: Schema, { components }: Contract): Schema {
  const name = messageName(schema);
  return name === undefined ? schema : components.schemas[name] ?? schema;
}

/** The name of the message or enum that a schema refers to. */
export function messageName({ $ref }: Schema): string | undefined {
  return $ref?.split("/").at(-1);
}

/** The schema of a map's values; undefined of what is no map. */
export function valuesOf({ additionalProperties }: Schema): Schema | undefined {
  return typeof additionalProperties === "object" ? additionalProperties : undefined;
}

/** Whether a schema is of numbers, which may be written as "NaN" too. */
export function isNumber({ anyOf, type }: Schema): boolean {
  return type === "number" || (anyOf?.some((one) => one.type === "number") ?? false);
}
