import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { z } from "zod";

/** Facts about a schema, for the OpenAPI document. */
export interface SchemaFacts {
  readonly description?: string | undefined;
  readonly [key: string]: unknown;
}

/**
 * Zod schemas of protobuf messages in their JSON form, camelCase names. They check requests, so that an error names the
 * whole path of a field, and are the components of the OpenAPI document: nothing is said twice that the `.proto` says.
 */
export class MessageSchemas {
  /** What is said about schemas. */
  readonly registry = z.registry<SchemaFacts>();
  /** The components: every message met so far, by name. */
  readonly components = new Map<string, z.ZodType>();
  readonly #comments: ReadonlyMap<string, string>;
  readonly #protoNames: boolean;
  readonly #schemas = new Map<string, z.ZodType>();

  /**
   * @param comments what the `.proto` says, by full name
   * @param protoNames whether fields may also have the `.proto`'s own names, in snake_case
   */
  constructor(
    comments: ReadonlyMap<string, string> = new Map(),
    { protoNames = false }: { readonly protoNames?: boolean } = {},
  ) {
    this.#comments = comments;
    this.#protoNames = protoNames;
  }

  /** What the `.proto` says about a message, field or rpc. */
  comment(fullName: string): string | undefined {
    return this.#comments.get(fullName);
  }

  /** The schema of a message; without the fields that come from elsewhere, such as the path. */
  message(
    descriptor: DescMessage,
    { without = [] }: { readonly without?: readonly string[] } = {},
  ) {
    const key = [descriptor.typeName, ...without].join(" ");
    const known = this.#schemas.get(key);
    if (known) return known;
    const schema = this.#build(descriptor, without);
    this.#schemas.set(key, schema);
    return schema;
  }

  /** Makes a schema a component. */
  component(name: string, schema: z.ZodType, description: string): z.ZodType {
    this.components.set(name, schema);
    return schema.register(this.registry, { description });
  }

  /** The schema of bytes that are a body. */
  binary(): z.ZodType {
    return z.string().register(this.registry, { format: "binary" });
  }

  /** The schema of one field's value. */
  field(field: DescField): z.ZodType {
    const schema = this.#value(field);
    const description = this.#comments.get(`${field.parent.typeName}.${field.name}`);
    return description === undefined
      ? schema
      : schema.clone().register(this.registry, { description });
  }

  #build(descriptor: DescMessage, without: readonly string[]): z.ZodType {
    if (descriptor.typeName === "google.protobuf.Timestamp") {
      return z.iso.datetime({ offset: true });
    }
    const fields = descriptor.fields.filter(({ jsonName }) => !without.includes(jsonName));
    const shape = fields.flatMap((field) => {
      const schema = this.field(field).optional();
      const names = this.#protoNames ? [field.jsonName, field.name] : [field.jsonName];
      return names.map((name) => [name, schema] as const);
    });
    const choices = descriptor.oneofs.filter((oneof) => oneof.fields.length > 1)
      .map((oneof) => oneof.fields.map(({ jsonName }) => jsonName));
    const object = z.strictObject(Object.fromEntries(shape)).superRefine((value, { addIssue }) => {
      for (const names of choices) {
        const found = names.filter((name) => value[name] !== undefined);
        if (found.length > 1) {
          addIssue({
            code: "custom",
            path: found.slice(1, 2),
            message: `stands beside ${found[0]}, expected one of ${names.join(", ")}`,
          });
        }
      }
    });
    const notes = choices.map((names) => `At most one of ${names.join(", ")}.`);
    const id = without.length > 0 ? `${descriptor.name}Body` : descriptor.name;
    const description = [this.#comments.get(descriptor.typeName), ...notes].join("\n\n");
    return this.component(id, object, description);
  }

  #value(field: DescField): z.ZodType {
    switch (field.fieldKind) {
      case "message":
        return this.message(field.message);
      case "enum":
        return this.#enum(field.enum);
      case "scalar":
        return scalar(field.scalar);
      case "list":
        return z.array(
          field.listKind === "message"
            ? this.message(field.message)
            : field.listKind === "enum"
            ? this.#enum(field.enum)
            : scalar(field.scalar),
        );
      case "map":
        return z.record(
          z.string(),
          field.mapKind === "message"
            ? this.message(field.message)
            : field.mapKind === "enum"
            ? this.#enum(field.enum)
            : scalar(field.scalar),
        );
    }
  }

  #enum(descriptor: DescEnum): z.ZodType {
    const known = this.#schemas.get(descriptor.typeName);
    if (known) return known;
    // What a value means stands in its comment, under the enum's scope in our reader.
    const lines = descriptor.values.map(({ name }) =>
      `- \`${name}\`: ${this.#comments.get(`${descriptor.typeName}.${name}`) ?? ""}`
    );
    const description = [this.#comments.get(descriptor.typeName), lines.join("\n")].join("\n\n");
    const values = z.enum(descriptor.values.map(({ name }) => name));
    const schema = this.component(descriptor.name, values, description);
    this.#schemas.set(descriptor.typeName, schema);
    return schema;
  }
}

const NOT_A_NUMBER = ["NaN", "Infinity", "-Infinity"] as const;

/** The JSON form of a scalar: https://protobuf.dev/programming-guides/json */
function scalar(type: ScalarType): z.ZodType {
  switch (type) {
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return z.union([z.number(), z.enum(NOT_A_NUMBER)]);
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return z.int32();
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return z.uint32();
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return z.string().regex(/^-?\d{1,20}$/);
    case ScalarType.BOOL:
      return z.boolean();
    case ScalarType.STRING:
      return z.string();
    case ScalarType.BYTES:
      return z.base64();
  }
}
